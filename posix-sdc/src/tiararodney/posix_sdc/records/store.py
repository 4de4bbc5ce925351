"""Records on disk: one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.records.files import SCENARIOS, records
from tiararodney.posix_sdc.support import owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

THREADS = "posix-sdc-each"
ABORT_SECONDS = 5.0  # for what is under way to end after an interrupt
_LONGEST = 200
T = TypeVar("T")
R = TypeVar("R")


class Jsonable(Protocol):
    """A record that can be written."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        ...


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write under beside a path; what is there at the end is renamed into its place.

    A reader sees all of a file or none of it, and an error leaves what was there before.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=owner.prefix())
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none of it."""
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


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


def each(
    jobs: int,
    items: Iterable[T],
    action: Callable[[T], R],
    keep: Callable[[R], None],
    abort: Callable[[], None] = lambda: None,
) -> None:
    """Run an action on every item in threads, and hand each result over in this one.

    On an error or an interrupt nothing new is begun, what is under way is told to end and handed to nobody (the
    interrupt may have reached it as well), and the error is raised.

    Args:
        jobs: threads.
        items: what to work on, in order.
        action: run once for each item.
        keep: given every result, as they finish.
        abort: makes actions that are under way end soon.
    """
    waiting = iter(items)
    running: set[Future[R]] = set()
    threads = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix=THREADS)
    try:
        running = {threads.submit(action, item) for item in islice(waiting, jobs)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                keep(future.result())
                running |= {threads.submit(action, item) for item in islice(waiting, 1)}
    except BaseException:
        abort()
        threads.shutdown(wait=False, cancel_futures=True)
        stuck = wait(running, timeout=ABORT_SECONDS).not_done
        threads.shutdown(wait=not stuck)
        raise
    threads.shutdown()


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
