"""Timings that are compared side by side, within one run: `python -m benchmarks [name ...]`. See README.md."""
