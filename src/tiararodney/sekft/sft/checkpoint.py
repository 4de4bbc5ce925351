"""Checkpoints beside `--out`: each is written whole or not at all, and known to be whole when it is read.

`OUT.checkpoint/checkpoint-STEP/` holds the trained weights, those that validated best, the Trainer's optimizer,
schedule and state, `progress.json` and a manifest with the SHA-256 of every file. The two newest are kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

PREFIX, MANIFEST, PROGRESS = "checkpoint-", "manifest.json", "progress.json"


def checkpoint_folder(out: Path) -> Path:
    """Where the checkpoints of the run that writes `out` lie: a folder beside it."""
    return out.with_name(out.name + ".checkpoint")


def write_checkpoint(root: str | Path, step: int, fill: Callable[[Path], None], progress: Mapping[str, Any]) -> Path:
    """Write a checkpoint into a `checkpoint_folder` in one move, and drop all but the one before.

    Args:
        root: The folder.
        step: The last step that is done.
        fill: Writes the files into a folder.
        progress: What a run needs to go on beside the Trainer's own state: JSON values, with the run's ``identity``.

    Raises:
        RunFailed: The disk refuses; the checkpoints before are as they were.
    """
    folder = Path(root) / f"{PREFIX}{step}"
    Path(root).mkdir(exist_ok=True)
    with new_folder(folder, replace=True) as fresh:
        fill(fresh)
        (fresh / PROGRESS).write_text(json.dumps(progress, indent=2) + "\n", encoding="utf-8")
        digests = {str(file.relative_to(fresh)): _digest(file) for file in sorted(fresh.rglob("*")) if file.is_file()}
        (fresh / MANIFEST).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")
    found = _checkpoints(root)
    before = max((at for at in found if at < step), default=step)
    for at in found.keys() - {step, before}:
        shutil.rmtree(found[at], ignore_errors=True)
    return folder


def newest_checkpoint(root: Path) -> Path | None:
    """Find the newest checkpoint in a `checkpoint_folder` that is whole; a torn one is skipped with a warning."""
    for _, folder in sorted(_checkpoints(root).items(), reverse=True):
        if (reason := _damage(folder)) is None:
            return folder
        log.warning("%s is damaged (%s): looking for the checkpoint before it", folder, reason)
    return None


def _checkpoints(root: str | Path) -> dict[int, Path]:
    """The checkpoints in a folder by their steps."""
    found = {folder.name.removeprefix(PREFIX): folder for folder in Path(root).glob(PREFIX + "*")}
    return {int(step): folder for step, folder in found.items() if step.isdigit()}


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None where nothing is."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name, digest in digests.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    return f"{wrong[0]} is not what was written" if wrong else None


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_progress(folder: Path) -> dict[str, Any]:
    """Read the progress that `write_checkpoint` wrote into a checkpoint's folder."""
    progress: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return progress


def check_same_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to resume from the checkpoint of a run of another identity (JSON values).

    Raises:
        UsageError: Naming what differs.
    """
    before = read_progress(folder)["identity"]
    for key, value in identity.items():
        if before.get(key) != value:
            raise UsageError(
                f"--resume: {folder} is of another run: {key} was {before.get(key)!r}, here it is {value!r}. "
                "Give the same flags and data, or --overwrite to begin anew."
            )
