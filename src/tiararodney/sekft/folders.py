"""Folders that are complete or not there at all, whatever kills the process that writes them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITING = ".writing-"  # a folder of this name beside the one it will be is unfinished


def cannot_write(out: Path, error: Exception) -> RunFailed:
    """Say that the disk refused, and why.

    Args:
        out: What was written.
        error: What the system, or safetensors, raised.

    Returns:
        The error to raise.
    """
    found = getattr(error, "strerror", None) or error
    return RunFailed(f"{out}: cannot write it: {found}. Free some space, or name another folder.")


def drop_unfinished(out: Path, older: float = 0.0) -> None:
    """Remove what a killed process left beside a folder.

    Args:
        out: The folder that was to be.
        older: Seconds since it was begun; less may be the work of a process that lives.
    """
    for left in out.absolute().parent.glob(f".{out.name}{WRITING}*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime >= older:
                shutil.rmtree(left, ignore_errors=True)


def check_out(out: Path, *, overwrite: bool, flag: str = "--out") -> None:
    """Refuse an adapter's folder that cannot be written, before hours are spent on it.

    Args:
        out: The folder to be.
        overwrite: Whether an adapter that is there may be replaced.
        flag: What named it.

    Raises:
        UsageError: It exists, or its parent cannot be made or written.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{flag} {out}: exists. Name a new folder, or give --overwrite to replace an adapter.")
    if out.exists() and not (out / "adapter_config.json").is_file() and any(out.iterdir() if out.is_dir() else [out]):
        raise UsageError(f"{flag} {out}: exists and is not an adapter's folder; --overwrite replaces adapters only.")
    check_folder(out.absolute().parent, f"{flag} {out}")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)


def check_folder(folder: Path, what: str) -> None:
    """Refuse a folder that is there and cannot be written to, or that cannot be made.

    Args:
        folder: The folder.
        what: What is to be written, to begin the message with.

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
def new_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Fill a folder beside `out` and move it there when all of it is on the disk.

    Args:
        out: The folder to be.
        replace: Put it in place of a folder that is there.

    Yields:
        The folder to fill.

    Raises:
        RunFailed: The disk refuses; nothing is left behind.
    """
    out = out.absolute()
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}{WRITING}", dir=out.parent))
    try:
        yield temporary
        for file in (path for path in temporary.rglob("*") if path.is_file()):
            file.chmod(0o644)
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.chmod(0o755)
        if replace and out.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}{WRITING}", dir=out.parent))
            out.rename(old / out.name)
            temporary.rename(out)
            shutil.rmtree(old)
        else:
            temporary.rename(out)
    except (OSError, SafetensorError) as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all; its folder is made where it is missing.

    Args:
        file: The file to be; one that is there is replaced.
        text: Its content; lone surrogates are written as escapes.

    Raises:
        RunFailed: It cannot be written.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise cannot_write(file, error) from None
