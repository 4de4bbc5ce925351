"""Curated data out of raw rollouts: a ``.jsonl`` file or a folder with one ``.jsonl`` a split."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.record import output_folder
from tiararodney.posix_sdc.schema import load_trajectories

if TYPE_CHECKING:
    from collections.abc import Iterable


def export(trajectories: Path, out: Path, *, everything: bool = False) -> dict[str, int]:
    """Write kept trajectories.

    Args:
        trajectories: a folder of raw rollouts, or a file of trajectories.
        out: a file ``*.jsonl``, or a folder that gets ``train.jsonl`` and ``holdout.jsonl``.
        everything: rejects too.

    Returns:
        Counts: ``written`` and ``left_out``.

    Raises:
        SchemaError: the input is missing, empty or broken.
        UsageError: nothing is kept, or the output cannot be written.
    """
    counts = {"written": 0, "left_out": 0}
    wanted = []
    for t in load_trajectories(trajectories):
        if everything or t.keep:
            wanted.append(t)
            counts["written"] += 1
        else:
            counts["left_out"] += 1
    if not wanted:
        raise UsageError(
            f"{trajectories}: found no kept trajectory among {counts['left_out']}. Use --all to export rejects too."
        )
    if out.suffix == ".jsonl":
        output_folder(out.parent)
        _write(out, (t.to_json() for t in wanted))
        return counts
    if out.suffix:
        raise UsageError(f"--out {out}: found the ending {out.suffix!r}, expected a file *.jsonl or a folder.")
    folder = output_folder(out)
    for split in sorted({t.split for t in wanted}):
        _write(folder / f"{split}.jsonl", (t.to_json() for t in wanted if t.split == split))
    return counts


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
