"""The folder that the demo works in: its own, far from the user's data."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from autoloader.embedded.cluster import ClusterFolder


@contextmanager
def temporary_place(console: Console) -> Iterator[Path]:
    """Removed in the end, and when interrupted. Kept when something fails, and said where: it is the evidence."""
    place = Path(tempfile.mkdtemp(prefix="autoloader-demo-"))
    if os.geteuid() == 0:
        # PostgreSQL's unprivileged account has to come through, to its own folder below; the rest stays root's.
        place.chmod(0o711)
    try:
        yield place
    except Exception:
        console.print(f"What the demo has made is kept in {place}", soft_wrap=True)
        raise
    except BaseException:
        _remove(place)
        raise
    else:
        _remove(place)


def home_of(place: Path) -> Path:
    return place / "home"


def _remove(place: Path) -> None:
    # Where that account cannot come through the temporary folder, its data lies elsewhere.
    ClusterFolder(home_of(place) / "postgres").remove()
    shutil.rmtree(place, ignore_errors=True)
