"""Sessions to train on, out of recorded trajectories: read one by one, filtered, every drop counted and named."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.records.files import TRAJECTORIES, records
from tiararodney.posix_sdc.schema import Trajectory
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SHOWN = 3
_LONGEST = 300  # characters told of another library's error


@dataclass(frozen=True)
class Session:
    """One recorded session, ready to be rendered.

    Args:
        id: the trajectory's id.
        messages: the turns as recorded.
        scenario_id: the scenario it was played in; train and validation are split by it.
        archetype: the scenario's archetype.
        split: the scenario's split.
        version: version of the generator.
        source: file and line it was read from.
    """

    id: str
    messages: tuple[Message, ...]
    scenario_id: str = ""
    archetype: str = ""
    split: str = ""
    version: str = ""
    source: str = ""


@dataclass(frozen=True)
class Filters:
    """Which trajectories are taken, besides that only kept ones are.

    Args:
        version: only of these versions; all where empty.
        split: only of these splits; all where empty.
        verified: only those whose check passed (True) or did not (False); None takes both.
        quarantine: take quarantined ones too.
        rejects: take those not kept too (to look at them).
    """

    version: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    verified: bool | None = None
    quarantine: bool = False
    rejects: bool = False

    def drop(self, trajectory: Trajectory) -> str:
        """Return why a trajectory is not taken, empty where it is."""
        if not trajectory.keep and not self.rejects:
            return f"not kept: {trajectory.outcome or 'no outcome told'}"
        if self.version and trajectory.version not in self.version:
            return f"version {trajectory.version or 'not told'}"
        if self.split and trajectory.split not in self.split:
            return f"split {trajectory.split}"
        if self.verified is not None and trajectory.verified is not self.verified:
            return "verified" if trajectory.verified else "not verified"
        if not self.quarantine and trajectory.extra.get("quarantine"):
            return "quarantined"
        return ""


def chosen(version: tuple[str, ...], split: tuple[str, ...], verified: str, *, quarantine: bool) -> Filters:
    """Return the filters that the command line's flags ask for; `verified` is ``any``, ``passed`` or ``failed``."""
    return Filters(version, split, {"passed": True, "failed": False}.get(verified), quarantine)


@dataclass
class Sessions:
    """The sessions under some paths; iterating reads them in flat memory and counts.

    Args:
        paths: folders and files.
        filters: which are taken.
        hub: names of data sets on the hub.
        read: trajectories seen so far.
        kept: sessions handed out so far.
        dropped: trajectories not taken so far, by reason.
        examples: for each reason, where the first few were.
    """

    paths: tuple[Path, ...]
    filters: Filters = field(default_factory=Filters)
    hub: tuple[str, ...] = ()
    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Session]:
        """Yield the sessions that are taken.

        Raises:
            SchemaError: a path is missing or empty, or a record in it cannot be taken.
            UsageError: a kept session does not end in an assistant turn, or nothing is left.
        """
        self.read = self.kept = 0
        self.dropped, self.examples = Counter(), {}
        for source, data in self._records():
            self.read += 1
            trajectory = Trajectory.from_json(data, source)
            why = self.filters.drop(trajectory)
            if why:
                self.dropped[why] += 1
                where = self.examples.setdefault(why, [])
                if len(where) < _SHOWN:
                    where.append(source)
                continue
            self.kept += 1
            yield _session(trajectory, source)
        if not self.kept:
            raise UsageError(
                f"{', '.join([*map(str, self.paths), *self.hub])}: found {self.read} trajectories and none to train on "
                f"({self.told()}), expected kept ones. Record some with posix-sdc rollout, or change the filters."
            )

    def _records(self) -> Iterator[tuple[str, object]]:
        for path in self.paths:
            yield from records(path, TRAJECTORIES)
        for name in self.hub:
            yield from _from_hub(name)

    def told(self) -> str:
        """Return the drops as a line for people."""
        return ", ".join(f"{n} {why}" for why, n in self.dropped.most_common()) or "none dropped"


def read_sessions(
    paths: str | Path | Sequence[str | Path], filters: Filters | None = None, *, hub: Iterable[str] = ()
) -> Sessions:
    """Return the sessions under paths, read when iterated.

    Args:
        paths: folders of raw ``*.json`` (or ``*.jsonl``, ``*.parquet``), or such files; several are chained.
        filters: which are taken; kept and not quarantined ones where not given.
        hub: names of data sets on the hub, read after the paths.

    Raises:
        UsageError: neither a path nor a hub name.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    names = tuple(hub)
    if not several and not names:
        raise UsageError("found no data, expected --data DIR|FILE or --hub NAME.")
    return Sessions(tuple(Path(p) for p in several), filters or Filters(), names)


def _session(trajectory: Trajectory, source: str) -> Session:
    name = "turns"
    for i, turn in enumerate(trajectory.turns):
        try:
            turn.content.encode()
        except UnicodeEncodeError as error:
            found = f"a lone surrogate at character {error.start}"
            raise UsageError(
                f"{source}: field '{name}[{i}].content': found {found}, expected text. Record it again."
            ) from None
    last = trajectory.turns[-1]
    if last.role != "assistant":
        raise UsageError(
            f"{source}: field '{name}[{len(trajectory.turns) - 1}].role': found {last.role!r} in a kept session's last "
            "turn, expected 'assistant' (exit or panic). Set keep to false, or cut it after its last command."
        )
    return Session(
        id=trajectory.id,
        messages=tuple(Message(t.role, t.content) for t in trajectory.turns),
        scenario_id=trajectory.scenario_id,
        archetype=trajectory.archetype,
        split=trajectory.split,
        version=trajectory.version,
        source=source,
    )


def _from_hub(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Stream a data set's trajectories."""
    try:
        import datasets
    except ImportError:
        raise UsageError(
            "--hub: found no package 'datasets'. Install it: pip install 'tiararodney.sekft[gpu]'."
        ) from None
    try:
        rows = datasets.load_dataset(name, "trajectories", split="train", streaming=True)
        for n, row in enumerate(rows, 1):
            yield f"hub {name}: row {n}", row
    except Exception as error:  # noqa: BLE001 - datasets passes on whatever its file systems and HTTP clients raise
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST]}"
        raise UsageError(
            f"--hub {name}: found no data set that can be read ({found}), expected one with a config 'trajectories'. "
            "Check the name."
        ) from None
