"""Records on disk: one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.records.files import SCENARIOS, records
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.support.whole import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LONGEST = 200
T = TypeVar("T")


class Jsonable(Protocol):
    """A record that can be written."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        ...


def write_record(path: Path, record: Jsonable) -> None:
    """Write a scenario or a trajectory, one JSON object a file."""
    write_text(path, json.dumps(record.to_json(), ensure_ascii=False, indent=1) + "\n")


def output_folder(path: str | Path) -> Path:
    """Make a folder for results, and clear away what killed runs left unfinished in it.

    Raises:
        UsageError: there is something else of this name, or it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"--out {folder}: found a file there, expected a folder or a free name.") from None
    except OSError as error:
        raise UsageError(
            f"--out {folder}: cannot be made ({error.strerror}). Choose a folder you may write to."
        ) from None
    owner.clear(folder)
    return folder


def file_name(record_id: str) -> str:
    """Return the name of a record's file: its id, made harmless where somebody's id is no plain name."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", record_id).lstrip(".")[:_LONGEST]
    if plain != record_id or not plain:
        plain += "-" + hashlib.sha256(record_id.encode()).hexdigest()[:8]
    return f"{plain}.json"


def finished(folder: Path) -> set[str]:
    """Return the names of the files of records that a folder holds already."""
    return {p.name for p in folder.glob("*.json") if not p.name.startswith(".")}


def sources(path: Path) -> list[str]:
    """Return where each scenario under a path stands, in the order of `load_scenarios`."""
    return [source for source, _ in records(path, SCENARIOS)]


def count_by(items: Iterable[T], key: Callable[[T], str]) -> dict[str, int]:
    """Count items by a key, largest first, then by name."""
    counts: dict[str, int] = {}
    for item in items:
        counts[key(item)] = counts.get(key(item), 0) + 1
    return dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))
