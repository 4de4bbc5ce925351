"""What the installed package `icalfa` holds: tasks, and the file systems that they are about."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "icalfa"
_DATA, _SCRIPT, _IMAGE = "assets/datasets", "assets/docker/setup_nl2b_fs_{}.sh", "assets/docker/nl2bash{}.Dockerfile"
_VARIABLE = re.compile(r'^ENV\s+(\w+)=(?:"([^"]*)"|(\S*))', re.MULTILINE)


@dataclass(frozen=True)
class FileSystem:
    """One of the package's file systems.

    Args:
        number: from 1.
        script: text of the script that sets it up.
        variables: environment variables that its image sets.
    """

    number: int
    script: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def script_path(self) -> str:
        """Where the script lies in the package's image: some tasks read it."""
        return "/" + Path(_SCRIPT.format(self.number)).name


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        index: over all file systems, as the package's `submit_command` counts them.
        file_system: number of its file system.
        query: what is wanted, in words.
        gold: a command that does it.
        second: another one, empty where there is none.
        difficulty: as the package rates it.
    """

    index: int
    file_system: int
    query: str
    gold: str
    second: str
    difficulty: str


@dataclass(frozen=True)
class Package:
    """What the package holds."""

    version: str
    file_systems: Mapping[int, FileSystem]
    tasks: tuple[Task, ...]


def read_package() -> Package:
    """Read the installed package. Nothing of it is imported: it would ask for a dozen others.

    Raises:
        UsageError: it is not installed, or a file of it is missing or has another shape.
    """
    found = util.find_spec(NAME)
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"the package {NAME} is not installed. Run: python -m pip install --no-deps {NAME}")
    root = Path(next(iter(found.submodule_search_locations)))
    numbers = sorted(int(file.stem.rpartition("_")[2]) for file in (root / _DATA).glob("nl2bash_fs_*.json"))
    if not numbers:
        raise UsageError(f"{root / _DATA}: found no nl2bash_fs_*.json, expected the tasks of {NAME} 0.3.")
    tasks: list[Task] = []
    for number in numbers:
        file = root / _DATA / f"nl2bash_fs_{number}.json"
        for at, row in enumerate(_rows(file)):
            tasks.append(_task(row, len(tasks), number, f"{file}: [{at}]"))
    systems = {number: _file_system(root, number) for number in numbers}
    try:
        version = metadata.version(NAME)
    except metadata.PackageNotFoundError:
        version = "unknown"
    return Package(version, systems, tuple(tasks))


def _file_system(root: Path, number: int) -> FileSystem:
    image = _text(root / _IMAGE.format(number))
    variables = {name: quoted or plain for name, quoted, plain in _VARIABLE.findall(image)}
    return FileSystem(number, _text(root / _SCRIPT.format(number)), variables)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}), expected a file of {NAME} 0.3.") from None


def _rows(file: Path) -> list[Any]:
    try:
        rows = json.loads(_text(file))
    except ValueError as error:
        raise UsageError(f"{file}: found no JSON ({error}), expected a list of tasks.") from None
    if not isinstance(rows, list):
        raise UsageError(f"{file}: found a {type(rows).__name__}, expected a list of tasks.")
    return rows


def _task(row: Any, index: int, number: int, source: str) -> Task:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("query", "gold")):
        raise UsageError(f"{source}: found {str(row)[:60]!r}, expected an object with the texts 'query' and 'gold'.")
    second, difficulty = str(row.get("gold2") or ""), str(row.get("difficulty", ""))
    return Task(index, number, row["query"].strip(), row["gold"].strip(), second.strip(), difficulty)
