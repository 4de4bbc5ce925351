"""Folders that are complete or not there at all."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("safetensors", reason="needs safetensors (extra gpu)")

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.folders import check_out, drop_unfinished, locked, new_folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_appears_when_all_of_it_is_written_and_everybody_may_read_it(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out", replace=False) as fresh:
        (fresh / "inner").mkdir()
        (fresh / "inner" / "file").write_text("text")
        (fresh / "inner" / "file").chmod(0o600)
        assert "out" not in names(tmp_path)
    assert names(tmp_path) == {"out"}
    assert (tmp_path / "out/inner/file").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "out/inner/file").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_a_folder_is_replaced_only_where_that_is_asked(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with new_folder(tmp_path / "out", replace=True) as fresh:
            (fresh / "file").write_text(text)
    assert (tmp_path / "out/file").read_text() == "two"
    with pytest.raises(RunFailed, match="out: cannot write it"), new_folder(tmp_path / "out", replace=False) as fresh:
        (fresh / "file").write_text("three")
    assert (tmp_path / "out/file").read_text() == "two"
    assert names(tmp_path) == {"out"}


def test_what_goes_wrong_leaves_nothing_and_other_faults_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"No space left.*Free some space"), new_folder(tmp_path / "out", replace=False):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out", replace=False):
        raise ZeroDivisionError
    assert names(tmp_path) == set()


def test_what_a_killed_process_left_is_removed_and_what_may_be_alive_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom tiararodney.sekft.folders import new_folder\n"
        "with new_folder(Path(sys.argv[1]), replace=False) as fresh:\n"
        "    (fresh / 'half').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert "out" not in names(tmp_path)
    (tmp_path / ".out.mine").mkdir()
    drop_unfinished(tmp_path / "out", older=60.0)
    assert len(names(tmp_path)) == 2
    for left in tmp_path.iterdir():
        os.utime(left, (0, 0))
    drop_unfinished(tmp_path / "out", older=60.0)
    assert names(tmp_path) == {".out.mine"}, "only what is ours to remove"


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file/adapter", "--out {tmp}/file/adapter: {tmp}/file is a file, expected a folder"),
        ("file/x/adapter", "--out {tmp}/file/x/adapter: {tmp}/file is a file, expected a folder"),
        ("file", "exists. Name a new folder"),
        ("/proc/x/adapter", "--out /proc/x/adapter: cannot write to /proc: "),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, out: str, says: str):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        check_out(tmp_path / out, overwrite=False)
    assert says.format(tmp=tmp_path) in str(caught.value)


def test_only_adapters_are_replaced(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(UsageError, match="not an adapter's folder"):
        check_out(tmp_path / "a", overwrite=True)
    (tmp_path / "a" / "adapter_config.json").touch()
    check_out(tmp_path / "a", overwrite=True)
    check_out(tmp_path / "new" / "deep", overwrite=False)


def test_a_lock_that_its_holder_removes_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between the two calls that open and lock it."""
    lock, flock, opened = tmp_path / ".out.lock", fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not opened:
            lock.unlink()
        opened.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path / "out"):
        assert lock.read_text() == f"{os.getpid()}\n"
        assert len(opened) == 2
        with pytest.raises(UsageError, match=f"process {os.getpid()} writes it"), locked(tmp_path / "out"):
            pass
    assert names(tmp_path) == set()


def test_a_lock_holds_on_a_full_disk(tmp_path: Path):
    """What is written under it says in one line that the disk is full."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        from tiararodney.sekft.folders import locked
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file may grow
        with locked(Path(sys.argv[1])):
            print("held")
    """
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"
    assert names(tmp_path) == set()


def test_what_a_kill_left_aside_goes_with_the_next_folder(tmp_path: Path):
    (tmp_path / ".out.replaced").mkdir()
    with new_folder(tmp_path / "out", replace=True) as fresh:
        (fresh / "file").touch()
    assert names(tmp_path) == {"out"}
