"""Records out of files: ``.json`` (one each), ``.jsonl`` and ``.parquet``, alone, in a folder, or in a data set folder.

What is read is decoded JSON that names its file and line; `schema` makes records of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import SchemaError

if TYPE_CHECKING:
    from pathlib import Path

# What a caller may look for, and the folders of a data set that hold them.
SCENARIOS, TRAJECTORIES = "scenario bundles", "trajectories"
BOTH = "scenario bundles or trajectories"
FOLDERS = {SCENARIOS: ("scenarios",), TRAJECTORIES: ("trajectories",), BOTH: ("scenarios", "trajectories")}


def records(path: Path, what: str) -> Iterator[tuple[str, object]]:
    """Yield ``(source, decoded JSON)`` for every record under a path, `source` naming file and line.

    Args:
        path: a folder (its ``*.json``, ``*.jsonl`` and ``*.parquet``), a data set folder (those below
            ``scenarios/`` and ``trajectories/``), or one file of these kinds.
        what: `SCENARIOS`, `TRAJECTORIES` or `BOTH`. In a parquet file whose columns serve both kinds, rows of the
            other kind are passed over.

    Raises:
        SchemaError: the path is missing or empty, or a file cannot be read.
    """
    if not path.exists():
        raise SchemaError(str(path), "", "no such file or folder", f"a folder or file of {what}", "Check the path.")
    if path.is_dir():
        folders = {path: _within(path)}
        if not folders[path]:
            folders = {path / name: _within(path / name) for name in FOLDERS[what]}
        if not any(folders.values()):
            found = "a folder without such files" if any(path.iterdir()) else "an empty folder"
            raise SchemaError(str(path), "", found, f"{what} as *.json, *.jsonl or *.parquet", "Check the path.")
    elif path.suffix in _READERS:
        folders = {path.parent: [path.name]}
    else:
        raise SchemaError(str(path), "", f"a file named {path.name!r}", f"{what} as .json, .jsonl or .parquet")
    taken = passed_over = False
    # Names, not paths: of a hundred thousand files the paths would take more memory than all else.
    for file in (folder / name for folder, names in folders.items() for name in names):
        for source, data in _READERS[file.suffix](file):
            if _of_the_other_kind(data, what):
                passed_over = True
                continue
            taken = True
            yield source, data
    if not taken:
        found = "records of the other kind only" if passed_over else "an empty file"
        raise SchemaError(str(path), "", found, f"at least one of {what}")


def _within(folder: Path) -> list[str]:
    """Return the names of the files in a folder that can be read, in order."""
    if not folder.is_dir():
        return []
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name.endswith(_ENDINGS) and e.name[0] != "." and e.is_file())
    except OSError as error:
        raise SchemaError(str(folder), "", error.strerror or "an unreadable folder", "a readable folder") from None


def _of_the_other_kind(data: object, what: str) -> bool:
    """Return whether a row of a table for both kinds is not of the kind that is looked for."""
    if not isinstance(data, Mapping) or "turns" not in data or "provider" not in data:
        return False
    wanted, other = ("turns", "provider") if what == TRAJECTORIES else ("provider", "turns")
    return what != BOTH and data[wanted] is None and data[other] is not None


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows' editors begin files with a BOM
    except UnicodeDecodeError as error:
        raise SchemaError(str(file), "", f"bytes that are no UTF-8 at offset {error.start}", "UTF-8 text") from None
    except OSError as error:
        raise SchemaError(str(file), "", error.strerror or "an unreadable file", "a readable file") from None


def _parse(text: str, source: str) -> object:
    def constant(name: str) -> float:
        raise SchemaError(source, "", name, "a finite number", "JSON has no NaN or Infinity: write null.")

    try:
        value: object = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        where = f"broken JSON at column {error.colno}" + (f" of line {error.lineno}" if "\n" in text.strip() else "")
        raise SchemaError(source, "", f"{where} ({error.msg})", "one JSON object", "Repair or remove it.") from None
    except RecursionError:
        raise SchemaError(source, "", "JSON nested too deep to read", "one flat JSON object") from None
    except ValueError as error:
        raise SchemaError(source, "", f"broken JSON ({error})", "one JSON object", "Repair or remove it.") from None
    return value


def _read_json(file: Path) -> Iterator[tuple[str, object]]:
    yield str(file), _parse(_read_text(file), str(file))


def _read_jsonl(file: Path) -> Iterator[tuple[str, object]]:
    try:
        with file.open("rb") as lines:
            for n, line in enumerate(lines, 1):
                source = f"{file}:{n}"
                if not line.strip():
                    continue
                try:
                    text = line.decode("utf-8-sig" if n == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise SchemaError(
                        source, "", f"bytes that are no UTF-8 at offset {error.start}", "UTF-8 text"
                    ) from None
                yield source, _parse(text, source)
    except OSError as error:
        raise SchemaError(str(file), "", error.strerror or "an unreadable file", "a readable file") from None


def _read_parquet(file: Path) -> Iterator[tuple[str, object]]:
    from tiararodney.posix_sdc.records.parquet import rows

    return rows(file)


_ENDINGS = (".json", ".jsonl", ".parquet")
_READERS = {".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
