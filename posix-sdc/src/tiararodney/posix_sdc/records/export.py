"""Export scenarios or kept sessions as ``.jsonl`` or parquet, or both as a Hugging Face data set folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.records import parquet
from tiararodney.posix_sdc.records.card import card
from tiararodney.posix_sdc.records.schema import SPLITS, load_scenarios, load_trajectories
from tiararodney.posix_sdc.records.store import output_folder
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.support.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.posix_sdc.records.schema import Trajectory

# How the hub names the only file of a split, and what it calls a split that is held out.
PART = "{}-00000-of-00001.parquet"
HUB_SPLITS = {"train": "train", "holdout": "test"}


@dataclass(frozen=True)
class Export:
    """What is handed on, and where to.

    Args:
        out: a file ``*.jsonl`` or ``*.parquet``, or a folder.
        scenarios: where bundles are, None for none.
        trajectories: where sessions are, None for none.
        everything: quarantined bundles and rejected sessions too.
        hub: make the folder a Hugging Face data set; else it gets one ``.jsonl`` a split.
        chat: trajectories in the conversational shape of TRL and Axolotl, see `conversation`.
    """

    out: Path
    scenarios: Path | None = None
    trajectories: Path | None = None
    everything: bool = False
    hub: bool = False
    chat: bool = False


def conversation(session: Trajectory) -> dict[str, Any]:
    """Return a session in the conversational shape: ``messages`` of role and content, and what it is keyed by.

    Each message says whether it is a target (``train``), which Axolotl reads with ``message_field_training: train``.
    """
    return {
        "id": session.id,
        "scenario_id": session.scenario_id,
        "archetype": session.archetype,
        "split": session.split,
        "messages": [
            {"role": t.role, "content": t.content, "train": t.role == "assistant" and t.train} for t in session.turns
        ],
    }


def export(wanted: Export) -> dict[str, int]:
    """Write data as asked for; what cannot be written whole is not written.

    Returns:
        Counts: ``scenarios`` and ``trajectories`` written, and ``left_out``.

    Raises:
        SchemaError: the input is missing, empty or broken.
        UsageError: there is nothing to write, pyarrow is missing, or the output cannot be written.
    """
    _refuse_nonsense(wanted)
    counts = {"scenarios": 0, "trajectories": 0, "left_out": 0}
    if wanted.hub:
        _data_set(wanted, counts)
    else:
        kind = "scenarios" if wanted.scenarios else "trajectories"
        if wanted.out.suffix:
            output_folder(wanted.out.parent)
            with whole(wanted.out) as beside:
                _file(beside, wanted.out.suffix, kind, _records(wanted, kind, counts))
                _refuse_nothing(wanted, kind, counts)
        else:
            _by_split(wanted, kind, counts)
    return counts


def _refuse_nonsense(wanted: Export) -> None:
    given = [path for path in (wanted.scenarios, wanted.trajectories) if path]
    if not given:
        raise UsageError("found neither --scenarios nor --trajectories, expected what is to be exported.")
    if wanted.hub and wanted.out.suffix:
        raise UsageError(f"--out {wanted.out}: found a file's name, expected a folder, which --hub makes.")
    if not wanted.hub and len(given) > 1:
        raise UsageError("found both --scenarios and --trajectories, expected one, or --hub for a folder of both.")
    if wanted.out.suffix not in ("", ".jsonl", ".parquet"):
        raise UsageError(
            f"--out {wanted.out}: found the ending {wanted.out.suffix!r}, expected a file *.jsonl or *.parquet, "
            "or a folder."
        )
    if wanted.chat and (wanted.scenarios or wanted.hub or wanted.out.suffix == ".parquet"):
        raise UsageError("--chat is for --trajectories, as a file *.jsonl or a folder of them.")
    for path in given:
        place = wanted.out.parent if wanted.out.suffix else wanted.out
        if path.is_dir() and place.resolve() == path.resolve():
            raise UsageError(f"--out {wanted.out}: found the folder that is read, expected another one.")
    if wanted.hub or wanted.out.suffix == ".parquet":
        parquet.require()


def _records(wanted: Export, kind: str, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield what is to be written of one kind, counting on the way."""
    if kind == "scenarios":
        assert wanted.scenarios
        for scenario in load_scenarios(wanted.scenarios):
            fit = wanted.everything or not scenario.quarantine
            counts[kind if fit else "left_out"] += 1
            if fit:
                yield scenario.to_json()
        return
    assert wanted.trajectories
    for session in load_trajectories(wanted.trajectories):
        fit = wanted.everything or session.keep
        counts[kind if fit else "left_out"] += 1
        if fit:
            yield conversation(session) if wanted.chat else session.to_json()


def _refuse_nothing(wanted: Export, kind: str, counts: dict[str, int]) -> None:
    if counts[kind] == 0:
        one = "scenario that is not quarantined" if kind == "scenarios" else "kept trajectory"
        path = wanted.scenarios if kind == "scenarios" else wanted.trajectories
        raise UsageError(f"{path}: found no {one} among {counts['left_out']}. Use --all to export the others too.")


def _file(path: Path, ending: str, kind: str, items: Iterator[dict[str, Any]]) -> None:
    if ending == ".parquet":
        parquet.write(path, kind, items)
        return
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            _line(file, item)


def _line(file: IO[str], item: dict[str, Any]) -> None:
    file.write(json.dumps(item, ensure_ascii=False) + "\n")


def _by_split(wanted: Export, kind: str, counts: dict[str, int]) -> None:
    """Write a folder with one ``.jsonl`` for each split that there is."""
    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for item in _records(wanted, kind, counts):
            split = item["split"]
            if split not in SPLITS:
                raise UsageError(f"{item['id']}: found split {split!r}, expected one of {', '.join(SPLITS)}.")
            if split not in files:
                beside = stack.enter_context(whole(output_folder(wanted.out) / f"{split}.jsonl"))
                files[split] = stack.enter_context(beside.open("w", encoding="utf-8"))
            _line(files[split], item)
        _refuse_nothing(wanted, kind, counts)


def _data_set(wanted: Export, counts: dict[str, int]) -> None:
    """Write a data set folder: one parquet file for each kind and split, and a card that counts what is in them."""
    out = wanted.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: found something there already, expected a free name or an empty folder.")
    output_folder(out.parent)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=owner.prefix()))
    try:
        for kind in parquet.KINDS:
            if (wanted.scenarios if kind == "scenarios" else wanted.trajectories) is None:
                continue
            (folder / kind).mkdir()
            _parts(folder / kind, kind, _records(wanted, kind, counts))
            _refuse_nothing(wanted, kind, counts)
        (folder / "README.md").write_text(card(folder), encoding="utf-8")
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(folder: Path, kind: str, items: Iterator[dict[str, Any]]) -> None:
    """Write one parquet file a split, in flat memory."""
    with ExitStack() as stack:
        writers: dict[str, parquet.Writer] = {}
        for item in items:
            split = HUB_SPLITS.get(item["split"], "train")
            if split not in writers:
                writers[split] = stack.enter_context(parquet.Writer(folder / PART.format(split), kind))
            writers[split].write(item)
