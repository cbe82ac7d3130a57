"""The server's log is kept under a size."""

from __future__ import annotations

from pathlib import Path

from autoloader.embedded.supervisor import Log


def test_a_full_log_gives_way_to_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    log = Log(str(path), limit_bytes=10)
    for line in (b"first line\n", b"second line\n", b"third line\n"):
        log.write(line)
    log.close()
    assert path.read_bytes() == b"third line\n"
    assert (tmp_path / "postgres.log.1").read_bytes() == b"second line\n"


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    for line in (b"one\n", b"two\n"):
        log = Log(str(path), limit_bytes=100)
        log.write(line)
        log.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
