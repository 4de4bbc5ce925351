"""Sessions to train on, out of recorded trajectories: read one by one, filtered, every drop counted and named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.records.files import TRAJECTORIES, records
from tiararodney.posix_sdc.records.reader import decoded
from tiararodney.posix_sdc.schema import Trajectory
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.hub import is_hub_id
from tiararodney.sekft.render import Message
from tiararodney.sekft.render.normalize import calls_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ALL_SPLITS = "all"
"""As a split to take: every one."""
_PLACES = 3  # named of each reason; all are counted
_READ_KEYS = ("role", "content", "train", "weight")
_SURROGATE = re.compile("[\ud800-\udfff]")
_EMPTY: tuple[object, ...] = (None, "", [], {})


@dataclass(frozen=True)
class Session:
    """One recorded session, ready to be rendered; train and validation are split by its scenario.

    `source` is the file and line it was read from, `unread_keys` the keys of its turns that are not read, such as
    ``name``, each with the number of turns.
    """

    id: str
    messages: tuple[Message, ...]
    scenario_id: str = ""
    archetype: str = ""
    source: str = ""
    unread_keys: Mapping[str, int] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The session's name in messages."""
        return f"{self.id or '(no id)'} ({self.source})"


class Sessions:
    """The sessions of kept trajectories; iterating over it, once, reads them in flat memory and counts.

    Args:
        paths: folders of raw ``*.json`` (or ``*.jsonl``, ``*.parquet``), such files, or data sets on the hub.
        hub: further names of data sets on the hub.
        version: only of these versions; all where empty.
        split: only of these splits; `ALL_SPLITS`, or none: all. A record that names none is of the split ``train``.
        verified: ``passed`` or ``failed``: only those whose check did; ``any`` takes both.
        quarantined: take quarantined ones too.

    Attributes:
        observe: called with every kept trajectory, whatever else is asked of it.
        read: trajectories seen so far.
        kept: sessions yielded so far.
        dropped: trajectories not taken so far, by reason.
        examples: for each reason, where the first few were.

    Raises:
        UsageError: neither a path nor a hub name.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        hub: Iterable[str] = (),
        version: Sequence[str] = (),
        split: Sequence[str] = (),
        verified: str = "any",
        quarantined: bool = False,
    ) -> None:
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        self._paths = [Path(path) for path in given if not is_hub_id(path)]
        self._hub = [*(str(path) for path in given if is_hub_id(path)), *hub]
        if not self._paths and not self._hub:
            raise UsageError("found no data, expected --data DIR|FILE or --hub NAME.")
        self._version, self._split, self._verified, self._quarantined = version, split, verified, quarantined
        self.observe: Callable[[Trajectory], None] = lambda _: None
        self.read = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Session]:
        """Yield the sessions that are taken; once.

        Raises:
            SchemaError: a path is missing or empty, or a record in it cannot be taken.
            UsageError: a kept session does not end in an assistant turn, or nothing is left.
        """
        streams = (*(records(path, TRAJECTORIES) for path in self._paths), *map(_from_hub, self._hub))
        for source, data in chain.from_iterable(streams):
            self.read += 1
            turns = _turns(data, source)
            if any(map(calls_tool, turns)):
                why = "tool calls, which are not trained on"
            else:
                trajectory = Trajectory.from_json(data, source)
                if trajectory.keep:
                    self.observe(trajectory)
                why = self._drop(trajectory)
            if not why:
                self.kept += 1
                yield _session(trajectory, turns, source)
                continue
            self.dropped[why] += 1
            if self.dropped[why] <= _PLACES:
                self.examples.setdefault(why, []).append(source)
        if not self.kept:
            remedy = "Record some with posix-sdc rollout, or change the filters."
            if any(why.startswith("split ") for why in self.dropped):
                remedy = f"Name the split with --data-split, or take every one with --data-split {ALL_SPLITS}."
            raise UsageError(
                f"{', '.join([*map(str, self._paths), *self._hub])}: found {self.read} trajectories and none to train "
                f"on ({self.drops()}), expected kept ones. {remedy}"
            )

    def _drop(self, t: Trajectory) -> str:
        """Return why a trajectory is not taken, empty where it is."""
        if not t.keep:
            return f"not kept: {t.outcome or 'no outcome recorded'}"
        if self._version and t.version not in self._version:
            return f"version {t.version or 'not recorded'}"
        if self._split and not {ALL_SPLITS, t.split} & set(self._split):
            return f"split {t.split}"
        if self._verified != "any" and t.verified is not (self._verified == "passed"):
            return "verified" if t.verified else "not verified"
        if t.extra.get("quarantine") and not self._quarantined:
            return "quarantined"
        return ""

    def drops(self) -> str:
        """Return the dropped trajectories, counted by reason, as one line."""
        return ", ".join(f"{n} {why}" for why, n in self.dropped.most_common()) or "none dropped"


def _turns(data: object, source: str) -> list[Mapping[str, Any]]:
    """Return a record's turns as they are written; what has another shape is left for `Trajectory` to refuse.

    Raises:
        UsageError: the record is a scenario.
    """
    if not isinstance(data, Mapping):
        return []
    turns = data.get("turns") if data.get("turns") is not None else data.get("messages")
    if turns is None and data.get("provider") is not None:
        raise UsageError(
            f"{source}: found a scenario, expected a trajectory. --data takes the sessions that posix-sdc rollout "
            "records of scenarios."
        )
    turns = decoded(turns)
    return [turn for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, list | tuple) else []


def _session(trajectory: Trajectory, turns: Sequence[Mapping[str, Any]], source: str) -> Session:
    for i, turn in enumerate(trajectory.turns):
        if surrogate := _SURROGATE.search(turn.content):
            found = f"a lone surrogate at character {surrogate.start()}"
            raise UsageError(f"{source}: field 'turns[{i}].content': found {found}, expected text. Record it again.")
    last = trajectory.turns[-1]
    if last.role != "assistant":
        raise UsageError(
            f"{source}: field 'turns[{len(trajectory.turns) - 1}].role': found {last.role!r} in a kept session's last "
            "turn, expected 'assistant' (exit or panic). Set keep to false, or cut it after its last command."
        )
    # Columns of a table are there for every row: a key that a turn lacks is null, or empty.
    unread = Counter(k for turn in turns for k, value in turn.items() if k not in _READ_KEYS and value not in _EMPTY)
    messages, t = tuple(Message(t.role, t.content, t.train) for t in trajectory.turns), trajectory
    return Session(t.id, messages, t.scenario_id, t.archetype, source, dict(unread))


def _from_hub(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Stream a data set's trajectories."""
    if find_spec("datasets") is None:
        raise UsageError("--hub: found no package 'datasets'. Install it: pip install 'tiararodney.sekft[gpu]'.")
    import datasets
    from huggingface_hub import HfApi, constants

    try:
        if not (constants.HF_HUB_OFFLINE or Path(name).exists()):
            HfApi().dataset_info(name, timeout=10)  # where there is no answer, `datasets` retries for long
        rows = datasets.load_dataset(name, "trajectories", split="train", streaming=True)
        for n, row in enumerate(rows, 1):
            yield f"hub {name}: row {n}", row
    except Exception as error:  # noqa: BLE001 - datasets passes on whatever its file systems and HTTP clients raise
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UsageError(
            f"--data {name}: no such file or folder, and no data set on the hub that can be read ({found}). "
            "Expected one with a config 'trajectories'. Check the name."
        ) from None
