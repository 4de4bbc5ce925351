"""Checkpoints beside `--out`: each is written whole or not at all, and known to be whole when it is read.

`OUT.checkpoint/checkpoint-STEP/` holds the trained weights, those that validated best, the Trainer's optimizer,
schedule and state, and a manifest: the run's progress, and the SHA-256 of every file. The two newest are kept.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import sort_checkpoints

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import new_folder
from tiararodney.sekft.provenance import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"


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
    folder = Path(root) / f"checkpoint-{step}"
    folder.parent.mkdir(exist_ok=True)
    with new_folder(folder, replace=True) as fresh:
        fill(fresh)
        files = {str(file.relative_to(fresh)): sha256_of(file) for file in sorted(fresh.rglob("*")) if file.is_file()}
        (fresh / MANIFEST).write_text(json.dumps({**progress, "files": files}, indent=2) + "\n", encoding="utf-8")
    # One of a later step is damaged, or of another run that was dropped: it must not push this one out.
    steps = sort_checkpoints(str(root))
    at = steps.index(str(folder))
    for other in (*steps[: max(at - 1, 0)], *steps[at + 1 :]):
        shutil.rmtree(other, ignore_errors=True)
    return folder


def newest_checkpoint(root: Path) -> Path | None:
    """Find the newest checkpoint in a `checkpoint_folder` that is whole; a torn one is skipped with a warning."""
    for folder in map(Path, reversed(sort_checkpoints(str(root)))):
        try:
            files = read_progress(folder)["files"]
            wrong = [f"{name} is not what was written" for name in files if sha256_of(folder / name) != files[name]]
        except (OSError, ValueError) as error:
            wrong = [str(error)]
        except (LookupError, TypeError):
            wrong = [f"its {MANIFEST} is of another version"]
        if not wrong:
            return folder
        log.warning("%s is damaged (%s): looking for the checkpoint before it", folder, wrong[0])
    return None


def read_progress(folder: Path) -> dict[str, Any]:
    """Read the progress that `write_checkpoint` wrote into a checkpoint's folder."""
    progress: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return progress


def check_same_run(folder: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to resume from the checkpoint of a run of another identity (JSON values).

    Raises:
        UsageError: Naming what differs.
    """
    before = read_progress(folder)["identity"]
    if odd := [key for key, value in identity.items() if before.get(key) != value]:
        raise UsageError(
            f"--resume: {folder} is of another run: {odd[0]} was {before.get(odd[0])!r}, here it is "
            f"{identity[odd[0]]!r}. Give the same flags and data, or --overwrite to begin anew."
        )
