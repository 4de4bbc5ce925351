"""Counts of what a folder of scenarios or trajectories holds."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.records.axes import (
    TOOLS,
    announcement_kind,
    block_of,
    chains_of,
    depth_of,
    family_of,
    herrings_of,
    level_of,
    place_of,
    skills_of,
)
from tiararodney.posix_sdc.records.behaviour import Behaviour, behaviour, rates
from tiararodney.posix_sdc.records.files import BOTH, records
from tiararodney.posix_sdc.records.phrases import PhraseCounter
from tiararodney.posix_sdc.records.schema import Scenario, Trajectory, is_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_SCENARIO_AXES: Mapping[str, Callable[[Scenario], str]] = {
    "split": lambda s: s.split,
    "terminal": lambda s: s.terminal,
    "family": lambda s: _label(family_of(s.archetype)),
    "archetype": lambda s: s.archetype,
    "commands": lambda s: str(level_of(s)),
    "block": lambda s: _label(block_of(s), "none"),
    "provider": lambda s: _label(s.provider.kind),
    "announcement": lambda s: announcement_kind(s.announcement),
    "documentation": lambda s: s.provider.documentation,
    "depth": lambda s: _label(depth_of(s)),
    "herrings": lambda s: " ".join(herrings_of(s)) or "none",
    "directives": lambda s: str(len(s.directives)),
    "utility": lambda s: next((w for w in skills_of(s) if family_of(w) == TOOLS), "none"),
    "place": place_of,
    "solution_commands": lambda s: str(len(s.reference_solution)),
    "generator": lambda s: _label(s.generator_model),
    "version": lambda s: s.version,
}
_SESSION_AXES: Mapping[str, Callable[[Trajectory], str]] = {
    "split": lambda t: t.split,
    "outcome": lambda t: _label(t.outcome),
    "terminal": lambda t: _label(t.terminal),
    "archetype": lambda t: _label(t.archetype),
    "operator": lambda t: _label(t.operator_model),
    "runtime": lambda t: _label(t.meta.get("runtime")),
    "version": lambda t: _label(t.version),
}
# Axes of numbers: those counted in numeric order, and those given as quantiles.
_NUMBERS = ("commands", "directives", "solution_commands")
QUANTILES = ("steps", "characters")
SHARES = ("phrases", "behaviour")  # parts that are no counts of the records by a value
_BAR = 24


def statistics(path: Path) -> dict[str, dict[str, Any]]:
    """Count scenarios and trajectories under a path.

    Args:
        path: a folder or file of either kind, or of both.

    Returns:
        JSON values: ``scenarios`` and ``trajectories``, each with ``n``, single counts and shares (of 1), counts by
        axis (largest first, numbers in their order) and quantiles; a part without records is left out. Of scenarios
        also ``compositions`` (how many different ones there are, see `chains_of`) and ``phrases``, the most frequent
        word n-grams of what people wrote with the share of worlds that have them; of sessions ``behaviour``, see
        `records.behaviour`.

    Raises:
        SchemaError: the path is missing or empty, or a record in it cannot be taken.
    """
    scenarios, sessions = _Tally(), _Tally()
    phrases, compositions, acts = PhraseCounter(), set[tuple[str, ...]](), list[Behaviour]()
    steps: list[int] = []
    characters: list[int] = []
    for source, data in records(path, BOTH):
        if is_session(data):
            session = Trajectory.from_json(data, source)
            sessions.add({name: of(session) for name, of in _SESSION_AXES.items()}, marked=session.keep)
            steps.append(session.steps)
            acts.append(behaviour(session))
            characters.append(sum(len(turn.content) for turn in session.turns))
        else:
            scenario = Scenario.from_json(data, source)
            phrases.add(scenario)
            compositions.update(chains_of(scenario))
            scenarios.add({name: of(scenario) for name, of in _SCENARIO_AXES.items()}, marked=bool(scenario.quarantine))
    parts: dict[str, dict[str, Any]] = {}
    if scenarios.n:
        panic = scenarios.axes["terminal"]["panic"] / scenarios.n
        singles = {"n": scenarios.n, "panic_share": round(panic, 4), "quarantined": scenarios.marked}
        singles["compositions"] = len(compositions)
        said = {phrase: round(worlds / phrases.worlds, 4) for phrase, worlds in phrases.most().items()}
        parts["scenarios"] = singles | scenarios.counts() | {"phrases": said}
    if sessions.n:
        kept = sessions.marked / sessions.n
        singles = {"n": sessions.n, "kept": sessions.marked, "kept_share": round(kept, 4)}
        spread = {"steps": _quantiles(sorted(steps)), "characters": _quantiles(sorted(characters))}
        parts["trajectories"] = singles | sessions.counts() | spread | {"behaviour": rates(acts)}
    return parts


class _Tally:
    """Counts records by axis."""

    def __init__(self) -> None:
        self.n = self.marked = 0
        self.axes: dict[str, Counter[str]] = {}

    def add(self, values: Mapping[str, str], *, marked: bool) -> None:
        self.n += 1
        self.marked += marked
        for axis, value in values.items():
            self.axes.setdefault(axis, Counter())[value] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        return {axis: _ordered(axis, counts) for axis, counts in self.axes.items()}


def _ordered(axis: str, counts: Counter[str]) -> dict[str, int]:
    if axis in _NUMBERS:
        return dict(sorted(counts.items(), key=lambda kv: (not kv[0].isdigit(), kv[0].zfill(9))))
    return dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))


def _label(value: object, otherwise: str = "not told") -> str:
    return otherwise if value is None or value == "" else str(value)


def _quantiles(ordered: Sequence[int]) -> dict[str, int]:
    last = len(ordered) - 1
    return {
        name: ordered[round(last * share)] for name, share in (("min", 0), ("median", 0.5), ("p90", 0.9), ("max", 1))
    }


def table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return statistics as text: for each axis its values with count, share and bar."""
    return "\n\n".join("\n".join(_lines(name, part)) for name, part in parts.items())


def _lines(name: str, part: Mapping[str, Any]) -> list[str]:
    n = part["n"]
    singles = "".join(f", {_single(k, v, n)}" for k, v in part.items() if not isinstance(v, dict) and k != "n")
    lines = [f"{name}: {n:,}{singles}"]
    for axis, counts in part.items():
        if axis in QUANTILES:
            lines += ["", f"  {axis}: " + ", ".join(f"{key} {value:,}" for key, value in counts.items())]
        elif axis in SHARES:
            lines += ["", f"  {axis}", *(f"    {_rate(value):>8}  {name}" for name, value in counts.items())]
        elif isinstance(counts, dict):
            lines += ["", f"  {axis.replace('_', ' ')} ({len(counts)})"]
            width = max(16, *(len(value) for value in counts))
            most = max(counts.values())
            for value, count in counts.items():
                bar = "▇" * max(1, round(_BAR * count / most))
                lines.append(f"    {value:<{width}} {count:>8,} {100 * count / n:>6.1f} %  {bar}")
    return lines


def _rate(value: float) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else f"{value:,}"


def _single(name: str, value: float, n: int) -> str:
    if name.endswith("_share"):
        return f"{100 * value:.1f} % {name.removesuffix('_share')}"
    if name == "compositions":
        return f"{value:,} compositions of skills"
    return f"{value:,} of {n:,} {name}"


def as_json(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return statistics as one line of JSON."""
    return json.dumps(parts, ensure_ascii=False)
