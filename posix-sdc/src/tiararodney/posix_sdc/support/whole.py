"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.support import owner

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside a path; what is there at the end is synced to disk and renamed into place.

    A reader sees all of a file or none of it, and an error leaves what was there before. The folder is made where it
    is missing.

    Raises:
        UsageError: nothing can be written there.
        InfrastructureError: the disk refuses it later, being full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=owner.prefix())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}). Choose a place you may write to.") from None
    beside = Path(name)
    try:
        yield beside
        os.fsync(handle)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot be written ({error.strerror or error}). Free some space.") from error
    finally:
        os.close(handle)
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none of it; lone surrogates are written as JSON escapes."""
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
