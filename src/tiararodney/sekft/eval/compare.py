"""`sekft-eval compare`: models of earlier runs side by side, matched by scenario and repeat."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.episodes import read_episodes
from tiararodney.sekft.eval.report import SCHEMA_VERSION, Contestant, build_report
from tiararodney.sekft.flags import Common
from tiararodney.sekft.settings import read_settings, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.eval.episodes import Episode

ABOUT = (
    "Compare models of earlier runs, matched by scenario: sekft-eval compare RUN RUN... [flags]. RUN is a folder that "
    "sekft-eval --out wrote; the first model of the first run is the reference."
)


@dataclass(frozen=True)
class CompareConfig:
    """What `sekft-eval compare` does; `runs` are its arguments, the rest are flags."""

    runs: tuple[Path, ...] = ()
    out: Path | None = setting("also write the page here", default=None, metavar="FILE.html", group="results")
    json: bool = setting("print the report as JSON instead of the table", default=False)
    by_archetype: bool = setting("also show archetypes with fewer than five scenarios", default=False)


def read_compare(argv: Sequence[str]) -> tuple[CompareConfig, Common]:
    """Read the arguments behind `compare`: folders first, then flags.

    Raises:
        UsageError: fewer than two folders, or a flag cannot be used.
        SystemExit: after ``--help`` and ``--version``.
    """
    argv = list(argv)
    first_flag = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    settings = read_settings(argv[first_flag:], (CompareConfig, Common), "sekft-eval compare", ABOUT)
    if first_flag < 2:  # noqa: PLR2004 - two runs make a comparison
        raise UsageError(f"compare: found {first_flag} folders, expected two or more. See sekft-eval compare --help.")
    config = replace(settings.of(CompareConfig), runs=tuple(Path(word) for word in argv[:first_flag]))
    return config, settings.of(Common)


class EarlierRun(NamedTuple):
    """A finished run as it lies on the disk: its folder, ``report.json``, ``run.json`` and last episodes."""

    path: Path
    report: dict[str, Any]
    identity: dict[str, dict[str, Any]]
    episodes: list[Episode]


def read_run(folder: Path) -> EarlierRun:
    """Read a folder that `sekft-eval --out` wrote.

    Raises:
        UsageError: a file is missing, cannot be read, or is of another version.
    """
    report = _json(folder / "report.json")
    if report.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{folder / 'report.json'}: found schema_version {report.get('schema_version')!r}, expected "
            f"{SCHEMA_VERSION}. Give the same sekft-eval command again: it rewrites the report from the episodes."
        )
    return EarlierRun(folder, report, _json(folder / "run.json"), read_episodes(folder / "episodes.jsonl"))


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}). Expected a folder of sekft-eval --out.") from None
    except ValueError:
        raise UsageError(f"{file}: found no JSON, expected what sekft-eval wrote.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file}: found {type(value).__name__}, expected a JSON object.")
    return value


def compare_runs(folders: Sequence[Path]) -> tuple[dict[str, Any], list[Episode]]:
    """Return one report over all models of several runs, and its episodes.

    The first model of the first run is the reference. A model that several runs played under one name with one
    fingerprint is taken from the first of them; others of one name are told apart by their run's folder.

    Raises:
        UsageError: a run cannot be read, the runs share no scenario, or one scenario's bundle differs between them.
    """
    runs = [read_run(folder) for folder in folders]
    _check_scenarios(runs)
    contestants: list[Contestant] = []
    episodes: list[Episode] = []
    for run in runs:
        for model in run.report["models"]:
            contestant = Contestant(**{field.name: model[field.name] for field in fields(Contestant)})
            named = [c for c in contestants if c.name == contestant.name]
            if any(c.kind == contestant.kind and c.fingerprint == contestant.fingerprint != "" for c in named):
                continue
            if named:
                contestant = replace(contestant, name=f"{run.path.name}/{contestant.name}")
            contestants.append(contestant)
            episodes += [replace(e, model=contestant.name) for e in run.episodes if e.model == model["name"]]
    first = runs[0].report
    scenarios: dict[str, str] = {e.scenario_id: e.archetype for e in episodes}
    about = {k: first[k] for k in ("started", "finished", "runtime", "config", "versions", "git_revision")} | {
        "scenarios": {
            "path": ", ".join(map(str, folders)),
            "n": len(scenarios),
            "ids": sorted(scenarios),
            "archetypes": dict(Counter(sorted(scenarios.values()))),
        },
        "compared": [str(f) for f in folders],
        "notes": _differences(runs),
    }
    return build_report(contestants, episodes, about), episodes


def _check_scenarios(runs: Sequence[EarlierRun]) -> None:
    first, ours = runs[0], runs[0].identity["scenarios"]
    for run in runs[1:]:
        theirs = run.identity["scenarios"]
        shared = ours.keys() & theirs.keys()
        if not shared:
            raise UsageError(f"{first.path} and {run.path} share no scenario: nothing can be paired.")
        if changed := sorted(s for s in shared if ours[s] != theirs[s]):
            raise UsageError(
                f"{first.path} and {run.path}: the bundle of {changed[0]} differs ({len(changed)} of {len(shared)}). "
                "Compare runs over the same scenarios."
            )


def _differences(runs: Sequence[EarlierRun]) -> list[str]:
    """Name the settings that differ between the runs: they may explain a difference as well as the models do."""
    first, notes = runs[0].identity["settings"], []
    for run in runs[1:]:
        changed = [name for name, value in run.identity["settings"].items() if first.get(name) != value]
        if changed:
            notes.append(f"{run.path} was played with another {', '.join(changed)} than {runs[0].path}.")
    return notes
