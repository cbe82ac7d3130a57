from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on, or something that it checks does not hold; the message says what."""
