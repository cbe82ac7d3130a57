"""What an unprivileged account can reach, told from mode bits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoloader.embedded import account
from autoloader.embedded.account import Account, shared_home
from autoloader.embedded.errors import EmbeddedPostgresError

STRANGER = Account(uid=65533, gid=65533, name="stranger", switch=True)
MYSELF = Account(uid=os.geteuid(), gid=os.getegid(), name="myself", switch=True)


@pytest.fixture
def reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose parents let everybody through, whatever pytest made them: only what lies below is looked at."""
    real = Account.can_come_to
    parents = set(tmp_path.parents)
    monkeypatch.setattr(account.Account, "_may", lambda self, path, wanted: path in parents or _MAY(self, path, wanted))
    tmp_path.chmod(0o755)
    assert real(STRANGER, tmp_path)
    return tmp_path


_MAY = Account._may


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "who", "expected"),
    [
        (0o755, 0o644, STRANGER, True),
        (0o711, 0o644, STRANGER, True),
        (0o700, 0o644, STRANGER, False),
        (0o755, 0o640, STRANGER, False),
        (0o700, 0o600, MYSELF, True),
    ],
)
def test_reading_needs_every_folder_and_the_file(reachable: Path, folder_mode: int, file_mode: int, who: Account, expected: bool) -> None:
    file = reachable / "folder" / "file"
    file.parent.mkdir()
    file.write_text("")
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)
    assert who.can_read(file) is expected


def test_a_link_is_judged_by_what_it_points_at(reachable: Path) -> None:
    private = reachable / "private"
    private.mkdir(mode=0o700)
    (private / "file").write_text("")
    link = reachable / "link"
    link.symlink_to(private / "file")
    assert not STRANGER.can_read(link)
    assert not STRANGER.can_read(reachable / "absent")


def test_a_shared_home_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(account, "_SHARED_HOMES", (first, second))
    first.mkdir()
    first.chmod(0o777)
    assert shared_home() == second
    second.chmod(0o775)
    with pytest.raises(EmbeddedPostgresError, match=f"{first} is not a folder that only root may write to; {second} is not"):
        shared_home()


def test_a_shared_home_behind_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    monkeypatch.setattr(account, "_SHARED_HOMES", (link,))
    with pytest.raises(EmbeddedPostgresError, match="is not a folder that only root may write to"):
        shared_home()
