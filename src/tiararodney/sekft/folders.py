"""Folders that are complete or not there at all, whatever kills the process that writes them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from tiararodney.posix_sdc.support.whole import write_text as write_whole
from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_folder", "check_out", "drop_unfinished", "locked", "new_folder", "write_whole"]

WRITING = ".writing-"  # a folder of this name beside the one it will be is unfinished


def drop_unfinished(out: Path, older: float = 0.0) -> None:
    """Remove what killed processes left beside a folder to be, begun at least `older` seconds ago: others may live."""
    for left in out.absolute().parent.glob(f".{out.name}{WRITING}*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime >= older:
                shutil.rmtree(left, ignore_errors=True)


def check_out(out: Path, *, overwrite: bool, flag: str = "--out") -> None:
    """Refuse an adapter's folder that cannot be written, before hours are spent on it; make its parent.

    Raises:
        UsageError: It exists and is no adapter to `overwrite`, or its parent cannot be made or written.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{flag} {out}: exists. Name a new folder, or give --overwrite to replace an adapter.")
    if out.exists() and not (out / "adapter_config.json").is_file() and any(out.iterdir() if out.is_dir() else [out]):
        raise UsageError(f"{flag} {out}: exists and is not an adapter's folder; --overwrite replaces adapters only.")
    check_folder(out.absolute().parent, f"{flag} {out}")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)


def check_folder(folder: Path, what: str) -> None:
    """Refuse a folder that is there and cannot be written to, or that cannot be made; `what` begins the message.

    Raises:
        UsageError: Naming the file or folder that is in the way.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"{what}: {there} is a file, expected a folder. Name another one.")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(f"{what}: cannot write to {there}: {error.strerror}. Name another folder.") from None


@contextmanager
def new_folder(out: Path, *, replace: bool, keep: bool = False) -> Iterator[Path]:
    """Fill a folder beside `out` and move it there when all of it is on the disk.

    Args:
        out: The folder to be.
        replace: Put it in place of a folder that is there.
        keep: Leave what was written where it is when something fails, and name it in the error.

    Yields:
        The folder to fill.

    Raises:
        RunFailed: The disk refuses; what was in `out` is there as before.
    """
    out, done = out.absolute(), False
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}{WRITING}", dir=out.parent))
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            path.chmod(0o755 if path.is_dir() else 0o644)  # some writers make files that only the user can read
            _sync(path)
        _put(temporary, out, replace=replace)
        done = True
    except (OSError, SafetensorError) as error:
        found = getattr(error, "strerror", None) or error
        where = f" What was written stays in {temporary}." if keep and temporary else ""
        raise RunFailed(f"{out}: cannot write it: {found}.{where} Free some space, or name another folder.") from error
    finally:
        if temporary and (done or not keep):
            shutil.rmtree(temporary, ignore_errors=True)
    with suppress(OSError):  # it is in its place; that a power cut forgets this is the least harm
        _sync(out.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(fresh: Path, out: Path, *, replace: bool) -> None:
    """Move a folder to its place; one that is there waits aside meanwhile, and comes back where that fails."""
    old = _aside(out)
    if replace and out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        try:
            fresh.rename(out)
        except BaseException:
            old.rename(out)
            raise
    else:
        fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _aside(out: Path) -> Path:
    return out.absolute().with_name(f".{out.name}.replaced")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other runs from writing a folder, for the length of a `with` block.

    The lock is the system's and goes with the process, however it ends; a file left behind locks nothing. What a
    process that was killed while it replaced the folder had moved aside is brought back first.

    Raises:
        UsageError: Another run holds it.
    """
    path = out.absolute().with_name(f".{out.name}.lock")
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                who = file.read().strip() or "unknown"
                raise UsageError(f"--out {out}: process {who} writes it. Wait, or name another folder.") from None
            if not os.fstat(file.fileno()).st_nlink:
                continue  # its last holder removed it just now
            try:
                file.truncate(0)
                with suppress(OSError):  # of a full disk whatever is written next tells; the lock holds all the same
                    os.write(file.fileno(), f"{os.getpid()}\n".encode())
                if _aside(out).exists() and not out.exists():
                    _aside(out).rename(out)
                shutil.rmtree(_aside(out), ignore_errors=True)
                yield
            finally:
                path.unlink(missing_ok=True)
            return
