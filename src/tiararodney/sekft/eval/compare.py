"""`sekft-eval compare`: models of earlier runs side by side, matched by scenario and repeat."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import configure_logs
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.contestants import Contestant
from tiararodney.sekft.eval.episodes import read_episodes, read_json
from tiararodney.sekft.eval.exports import page
from tiararodney.sekft.eval.report import SCHEMA_VERSION, build_report, print_report
from tiararodney.sekft.flags import Common
from tiararodney.sekft.folders import write_whole
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
    """The flags of `sekft-eval compare`."""

    out: Path | None = setting("also write the page here", default=None, metavar="FILE.html", group="results")
    json: bool = setting("print the report as JSON instead of the table", default=False)
    by_archetype: bool = setting("also show archetypes with fewer than five scenarios", default=False)


def compare(argv: Sequence[str]) -> int:
    """Compare earlier runs and print the report: folders first, then flags.

    Raises:
        UsageError: fewer than two folders, a flag cannot be used, or the runs cannot be compared.
        SystemExit: after ``--help`` and ``--version``.
    """
    first_flag = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    settings = read_settings(argv[first_flag:], (CompareConfig, Common), "sekft-eval compare", ABOUT)
    if first_flag < 2:  # noqa: PLR2004 - two runs make a comparison
        raise UsageError(f"compare: found {first_flag} folders, expected two or more. See sekft-eval compare --help.")
    config = settings.of(CompareConfig)
    configure_logs(settings.of(Common).verbosity)
    report, episodes = compare_runs([Path(word) for word in argv[:first_flag]])
    if config.out is not None:
        write_whole(config.out, page(report, episodes))
    print_report(report, config.out, as_json=config.json, all_archetypes=config.by_archetype)
    return 0


def compare_runs(folders: Sequence[Path]) -> tuple[dict[str, Any], list[Episode]]:
    """Return one report over all models of several runs, and its episodes.

    The first model of the first run is the reference. A model that several runs played under one name with one
    fingerprint is taken from the first of them; others of one name are told apart by their run's folder.

    Raises:
        UsageError: a run cannot be read, the runs share no scenario, or one scenario's bundle differs between them.
    """
    wanted = "a folder of sekft-eval --out"
    reports = [read_json(folder / "report.json", wanted) for folder in folders]
    runs = [read_json(folder / "run.json", wanted) for folder in folders]
    notes: list[str] = []
    contestants: list[Contestant] = []
    episodes: list[Episode] = []
    for folder, report, run in zip(folders, reports, runs, strict=True):
        if report.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(
                f"{folder / 'report.json'}: found schema_version {report.get('schema_version')!r}, expected "
                f"{SCHEMA_VERSION}. Give the same sekft-eval command again: it rewrites the report from the episodes."
            )
        ours, theirs = runs[0]["scenarios"], run["scenarios"]
        shared = ours.keys() & theirs.keys()
        if not shared:
            raise UsageError(f"{folders[0]} and {folder} share no scenario: nothing can be paired.")
        if changed := sorted(s for s in shared if ours[s] != theirs[s]):
            raise UsageError(
                f"{folders[0]} and {folder}: the bundle of {changed[0]} differs ({len(changed)} of {len(shared)}). "
                "Compare runs over the same scenarios."
            )
        played = read_episodes(folder / "episodes.jsonl")
        for model in report["models"]:
            contestant = Contestant(**{field.name: model[field.name] for field in fields(Contestant)})
            named = [c for c in contestants if c.name == contestant.name]
            if any(c.kind == contestant.kind and c.fingerprint == contestant.fingerprint != "" for c in named):
                continue
            if named:
                contestant = replace(contestant, name=f"{folder.name}/{contestant.name}")
            contestants.append(contestant)
            episodes += [replace(e, model=contestant.name) for e in played if e.model == model["name"]]
        # Settings that differ may explain a difference as well as the models do.
        if changed := [name for name, value in run["settings"].items() if runs[0]["settings"].get(name) != value]:
            notes.append(f"{folder} was played with another {', '.join(changed)} than {folders[0]}.")
    scenarios = {e.scenario_id: e.archetype for e in episodes}
    about = {k: reports[0][k] for k in ("started", "finished", "runtime", "config", "versions", "git_revision")} | {
        "scenarios": {
            "path": ", ".join(map(str, folders)),
            "n": len(scenarios),
            "ids": sorted(scenarios),
            "archetypes": dict(Counter(sorted(scenarios.values()))),
        },
        "compared": [str(f) for f in folders],
        "notes": notes,
    }
    return build_report(contestants, episodes, about), episodes
