"""One evaluation: choose scenarios, play what is not played yet, report."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub, provenance
from tiararodney.sekft.endpoint import PosixSdcError
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.contestants import BASELINES, ENDPOINT, LOCAL, check_unseen, contestants, endpoints
from tiararodney.sekft.eval.episodes import EpisodeLog, read_json
from tiararodney.sekft.eval.exports import junit_xml, page, write_inspect_logs
from tiararodney.sekft.eval.live import watching
from tiararodney.sekft.eval.operators import endpoint_player, local_players
from tiararodney.sekft.eval.report import build_report
from tiararodney.sekft.folders import check_folder, locked, write_whole
from tiararodney.sekft.settings import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.contestants import Contestant
    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.live import Watch
    from tiararodney.sekft.eval.operators import Player
    from tiararodney.sekft.model import Base

log = logging.getLogger(__name__)

PASSES = 3
"""Sessions that an infrastructure error spoilt are played again at the end, so many passes in all."""
PATIENCE = 60.0
"""Seconds that a further pass waits for the runtime to answer again."""
BOUND = (
    *("runtime", "max_turns", "max_new_tokens", "temperature", "seed", "load_4bit", "dtype", "tokenizer"),
    "command_seconds",
)
"""Settings that an episode depends on: a run that resumes must have the same."""


def evaluate(
    config: EvalConfig, base: Base | None = None, should_stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Play every contestant in the same worlds and write the report.

    Args:
        config: what, on what, and how.
        base: a base that is loaded already (a resident's); it is used as it is and left bit for bit as it was.
        should_stop: asked before each reply; True ends the run as Ctrl-C does.

    Returns:
        The report, as written to ``report.json``.

    Raises:
        UsageError: ours or posix-sdc's: an input cannot be used.
        RunFailed: a server answers nobody. What was played is kept, the same call resumes.
        InfrastructureError: posix-sdc's: the runtime or its engine fails. The same holds then.
    """
    started = provenance.now()
    check_folder(config.out, f"--out {config.out}")
    selection = worlds.select(config.scenarios, config.n, config.split)
    scenarios = selection.scenarios
    if config.n is not None and len(scenarios) < config.n:
        log.warning("--n %d: there are only %d scenarios, all are played", config.n, len(scenarios))
    runtime = worlds.resolve_runtime(config.runtime)
    entrants, precision = contestants(config, base)
    # Not every bundle has a checker of its own maker.
    judges = Counter(str(by) for s in scenarios if (by := s.checker.extra.get("judged_by")))
    notes = [f"{n} of {len(scenarios)} scenarios are judged by {by}." for by, n in sorted(judges.items())]
    notes += check_unseen(config, entrants, [s.id for s in scenarios])
    bound = to_json(config) | {"runtime": runtime} | ({} if precision is None else {"dtype": precision["dtype"]})
    identity = {
        "settings": {name: bound[name] for name in BOUND},
        "models": {c.name: c.fingerprint for c in entrants},
        "scenarios": selection.digests,
    }
    # Contestants next to each other, so that an engine can batch them.
    jobs = [worlds.Job(c.name, s, sample) for sample in range(config.repeats) for s in scenarios for c in entrants]
    if config.baselines:
        jobs += [worlds.Job(name, s, 0) for s in scenarios for name in BASELINES]
    config.out.mkdir(parents=True, exist_ok=True)
    file = config.out / "episodes.jsonl"
    with locked(file):
        claim(config.out / "run.json", identity)
        episodes = EpisodeLog(file)
        notes += _play_all(config, base, entrants, jobs, episodes, runtime, should_stop)
    last = {e.key: e for e in episodes.episodes}  # it supersedes an earlier infrastructure error
    played = [last[job.key] for job in jobs if job.key in last]
    run = {
        "started": started,
        "finished": provenance.now(),
        "runtime": runtime,
        "precision": precision,
        "notes": notes,
        "infrastructure_errors_seen": sum(bool(e.infrastructure) for e in episodes.episodes),
        "scenarios": {
            "path": str(config.scenarios),
            "n": len(scenarios),
            "quarantined": selection.quarantined,
            "archetypes": dict(Counter(sorted(s.archetype for s in scenarios))),
            "ids": [s.id for s in scenarios],
        },
        "config": to_json(config),
        "versions": provenance.versions(),
        "git_revision": provenance.git_revision(),
    }
    report = build_report(entrants, played, run)
    shown = [e for e in played if e.model not in BASELINES]
    write_whole(config.out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_whole(config.out / "report.html", page(report, shown, {s.id: s.to_json() for s in scenarios}))
    if config.junit is not None:
        write_whole(config.junit, junit_xml(report, shown))
    if config.log_format == "inspect":
        write_inspect_logs(report, shown, config.out / "inspect")
    return report


def claim(file: Path, identity: dict[str, dict[str, Any]]) -> None:
    """Take a new folder, or go on in one whose episodes fit: more models or scenarios may come along, none may differ.

    Raises:
        UsageError: the folder holds episodes of another run.
    """
    before: dict[str, dict[str, Any]] = {part: {} for part in identity}
    if file.exists():
        before |= read_json(file, "the record of a run. Give another --out")
    elif (file.parent / "episodes.jsonl").exists():
        raise UsageError(f"--out {file.parent}: found episodes.jsonl but no run.json beside it. Give another --out.")
    for part, values in identity.items():
        for key, value in values.items():
            if before[part].get(key, value) != value:
                raise UsageError(
                    f"--out {file.parent} holds another run: {part}: {key} was {before[part][key]!r}, "
                    f"now it is {value!r}. Give another --out, or remove the folder."
                )
    merged = {part: before[part] | values for part, values in identity.items()}
    write_whole(file, json.dumps(merged, indent=2) + "\n")


def _play_all(
    config: EvalConfig,
    base: Base | None,
    entrants: Sequence[Contestant],
    jobs: Sequence[worlds.Job],
    episodes: EpisodeLog,
    runtime: str,
    should_stop: Callable[[], bool],
) -> list[str]:
    """Play what is not played yet, and what an infrastructure error spoilt again; return notes for the report."""

    def left() -> list[worlds.Job]:
        done = {e.key for e in episodes.episodes if not e.infrastructure}
        return [job for job in jobs if job.key not in done]

    todo = left()
    log.info("%d of %d sessions to play on %s", len(todo), len(jobs), runtime)
    tokenizer = None
    if todo and config.tokenizer is not None:
        from tiararodney.sekft.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(hub.find(config.tokenizer, hub.TOKENIZER, "--tokenizer"))
    silent: dict[str, Counter[str]] = {c.name: Counter() for c in entrants if c.kind == ENDPOINT}
    served = {m: endpoint_player(endpoints(config, m), config, tokenizer, count) for m, count in silent.items()}
    players: dict[str, Player] = worlds.scripts(config.seed) | served
    local = [c for c in entrants if c.kind in LOCAL and c.name in {job.model for job in todo}]
    with ExitStack() as stack:
        cancel: Callable[[], None] = lambda: None  # noqa: E731 - ends replies under way
        if local:
            models, cancel = stack.enter_context(local_players(config, base, local))
            players |= models
        for attempt in range(PASSES):
            if not todo:
                break
            if attempt:
                log.warning("%d sessions met infrastructure errors: playing them again", len(todo))
                with suppress(PosixSdcError):  # whether it is back shows when the next world is opened
                    worlds.resolve_runtime(runtime, PATIENCE)
            with watching(todo, [c.name for c in entrants], episodes.episodes) as watch:

                def keep(episode: Episode, watch: Watch = watch) -> None:
                    episodes.append(episode)
                    watch.finished(episode)

                worlds.play(todo, players, keep, watch.turn, runtime, config, should_stop, cancel)
            todo = left()
    # A reply without content: a parser of the server's own may have taken it.
    notes = [
        f"{model}: {n} replies had {why}. If the server parses tool calls or reasoning out of replies, serve the model "
        "without that parser."
        for model, count in silent.items()
        for why, n in count.items()
    ]
    for note in notes:
        log.warning(note)
    return notes
