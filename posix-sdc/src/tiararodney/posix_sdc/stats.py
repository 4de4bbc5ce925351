"""Counts of what a folder of scenarios or trajectories holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.record import count_by
from tiararodney.posix_sdc.schema import Scenario, Trajectory, records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def statistics(path: Path) -> dict[str, Any]:
    """Count scenarios and trajectories under a path.

    Args:
        path: a folder or file of either kind, or of both.

    Returns:
        JSON values: ``scenarios`` and ``trajectories``, each with counts by axis; a part without records is left out.

    Raises:
        SchemaError: the path is missing or empty, or a record in it cannot be taken.
    """
    scenarios: list[Scenario] = []
    trajectories: list[Trajectory] = []
    for source, data in records(path, "scenarios or trajectories"):
        if isinstance(data, dict) and ("turns" in data or "messages" in data):
            trajectories.append(Trajectory.from_json(data, source))
        else:
            scenarios.append(Scenario.from_json(data, source))
    parts: dict[str, Any] = {}
    if scenarios:
        parts["scenarios"] = _of_scenarios(scenarios)
    if trajectories:
        parts["trajectories"] = _of_trajectories(trajectories)
    return parts


def _of_scenarios(items: Sequence[Scenario]) -> dict[str, Any]:
    return {
        "n": len(items),
        "split": count_by(items, lambda s: s.split),
        "terminal": count_by(items, lambda s: s.terminal),
        "archetype": count_by(items, lambda s: s.archetype),
        "family": count_by(items, lambda s: str(s.extra.get("family", ""))),
        "block": count_by(items, lambda s: str(s.extra.get("block", "") or "none")),
        "provider": count_by(items, lambda s: s.provider.kind),
        "announcement": count_by(items, lambda s: s.announcement.kind),
        "documentation": count_by(items, lambda s: s.provider.documentation),
        "directives": count_by(items, lambda s: str(len(s.directives))),
        "solution_commands": count_by(items, lambda s: str(len(s.reference_solution))),
        "quarantined": sum(bool(s.quarantine) for s in items),
    }


def _of_trajectories(items: Sequence[Trajectory]) -> dict[str, Any]:
    steps = sorted(t.steps for t in items)
    characters = sorted(sum(len(turn.content) for turn in t.turns) for t in items)
    return {
        "n": len(items),
        "kept": sum(t.keep for t in items),
        "split": count_by(items, lambda t: t.split),
        "outcome": count_by(items, lambda t: t.outcome or "unknown"),
        "terminal": count_by(items, lambda t: t.terminal),
        "operator": count_by(items, lambda t: t.operator_model),
        "runtime": count_by(items, lambda t: str(t.meta.get("runtime", ""))),
        "archetype": count_by(items, lambda t: t.archetype),
        "steps": _quantiles(steps),
        "characters": _quantiles(characters),
    }


def _quantiles(ordered: Sequence[int]) -> dict[str, int]:
    last = len(ordered) - 1
    return {
        name: ordered[round(last * share)] for name, share in (("min", 0), ("median", 0.5), ("p90", 0.9), ("max", 1))
    }


def table(parts: dict[str, Any]) -> str:
    """Return statistics as text: one line a count."""
    lines = []
    for part, axes in parts.items():
        lines.append(f"{part}: {axes['n']}")
        for axis, value in axes.items():
            if isinstance(value, dict):
                lines.append(f"  {axis}")
                lines += [f"    {name:<24} {count:>7}" for name, count in value.items()]
            elif axis != "n":
                lines.append(f"  {axis:<26} {value:>7}")
    return "\n".join(lines)


def as_json(parts: dict[str, Any]) -> str:
    """Return statistics as one line of JSON."""
    return json.dumps(parts, ensure_ascii=False)
