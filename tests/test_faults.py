"""Every system call of the writing path fails once, and is killed once: an old or a new folder is there, whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("safetensors", reason="needs safetensors (extra gpu)")

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.folders import drop_unfinished, locked, new_folder

CALLS = ("open", "os.", "shutil.", "tempfile.", "fcntl.")
FILES = {"one": "1", "two": "2", "inner/three": "3"}
LIMIT = 200  # more calls than the path has


def write(out: Path, text: str) -> None:
    """What a run does at its end: look for leftovers, write, tidy up."""
    with locked(out):
        with new_folder(out, replace=True, keep=True) as fresh:
            (fresh / "inner").mkdir()
            for name, content in FILES.items():
                (fresh / name).write_text(text + content)
        drop_unfinished(out)


def content(out: Path) -> str:
    """The text that all files of a folder agree on; fails where it is not whole."""
    found = {(out / name).read_text().removesuffix(content) for name, content in FILES.items()}
    assert len(found) == 1, found
    return found.pop()


def with_fault(number: int, fault: Callable[[], None], work: Callable[[], None]) -> int:
    """Do some work in a fork whose system call of that number meets a fault; return how it ended.

    Python tells of its own calls by audit events; `fsync` has none and is counted here.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen, armed = [0], [True]

    def count(event: str, *_: object) -> None:
        if armed[0] and event.startswith(CALLS):
            seen[0] += 1
            if seen[0] == number:
                fault()

    real_sync = os.fsync
    os.fsync = lambda descriptor: (count("os.fsync"), real_sync(descriptor))[1]  # type: ignore[assignment]
    sys.addaudithook(count)
    code = 9
    try:
        work()
        code = 0 if seen[0] >= number else 3
    except RunFailed:
        code = 1
    except OSError:
        code = 2
    finally:
        armed[0] = False
        os._exit(code)
    return code


def refuse() -> None:
    raise OSError(28, "No space left on device")


def kill() -> None:
    os._exit(7)


@pytest.mark.parametrize("fault", [refuse, kill], ids=["an error", "a kill"])
def test_old_or_new_survives_a_fault_at_every_call(tmp_path: Path, fault: Callable[[], None]) -> None:
    outcomes = []
    for number in range(1, LIMIT):
        out = tmp_path / str(number) / "adapter"
        out.parent.mkdir()
        write(out, "old")
        outcomes.append(with_fault(number, fault, lambda out=out: write(out, "new")))
        with locked(out):  # the lock went with the process
            pass
        assert content(out) in ("old", "new"), f"call {number}"
        if outcomes[-1] == 0:
            assert content(out) == "new"
        if outcomes[-1] == 1:
            kept = [path for path in out.parent.iterdir() if ".writing-" in path.name]
            assert content(out) == "new" or len(kept) <= 1
        write(out, "next")
        assert content(out) == "next"
        assert [path.name for path in out.parent.iterdir()] == ["adapter"], f"call {number} leaves something behind"
        if outcomes[-1] == 3:
            break
    assert outcomes[-1] == 3, "every call met its fault"
    assert len(outcomes) > 20
    assert {7} <= set(outcomes) if fault is kill else {1} <= set(outcomes)
