"""One evaluation: choose scenarios, play what is not played yet, report."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub, provenance
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.contestants import check_unseen, contestants, endpoints
from tiararodney.sekft.eval.episodes import EpisodeLog
from tiararodney.sekft.eval.exports import junit_xml, write_inspect_logs
from tiararodney.sekft.eval.live import watching
from tiararodney.sekft.eval.local import local_players, precision_of
from tiararodney.sekft.eval.operators import BASELINES, EndpointPlayer
from tiararodney.sekft.eval.page import page
from tiararodney.sekft.eval.report import ENDPOINT, LOCAL, Contestant, build_report
from tiararodney.sekft.folders import check_folder, write_whole
from tiararodney.sekft.settings import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.config import EvalConfig
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
        UsageError: an input cannot be used.
        RunFailed: the run broke off; what was played is kept, the same call resumes.
    """
    started = provenance.now()
    check_folder(config.out, f"--out {config.out}")
    selection = worlds.select(config.scenarios, config.n, config.split)
    if config.n is not None and len(selection.scenarios) < config.n:
        log.warning("--n %d: there are only %d scenarios, all are played", config.n, len(selection.scenarios))
    runtime = worlds.resolve_runtime(config.runtime)
    entrants = contestants(config, base)
    precision = precision_of(config, base)
    notes = [*selection.notes, *check_unseen(config, entrants, [s.id for s in selection.scenarios])]
    config.out.mkdir(parents=True, exist_ok=True)
    bound = to_json(config) | {"runtime": runtime} | ({} if precision is None else {"dtype": precision["dtype"]})
    identity = {
        "settings": {name: bound[name] for name in BOUND},
        "models": {c.name: c.fingerprint for c in entrants},
        "scenarios": selection.digests,
    }
    claim(config.out / "run.json", identity)
    with closing(EpisodeLog(config.out / "episodes.jsonl")) as episodes:
        run = _Run(config, runtime, selection, entrants, episodes, should_stop)
        notes += _play_all(run, base)
        last = {e.key: e for e in episodes.episodes}  # it supersedes an earlier infrastructure error
        played = [last[job.key] for job in run.jobs if job.key in last]
        broken = sum(bool(e.infrastructure) for e in episodes.episodes)
    report = build_report(
        entrants,
        played,
        {
            "started": started,
            "finished": provenance.now(),
            "runtime": runtime,
            "precision": precision,
            "notes": notes,
            "infrastructure_errors_seen": broken,
            "scenarios": {
                "path": str(config.scenarios),
                "n": len(selection.scenarios),
                "quarantined": selection.quarantined,
                "archetypes": selection.archetypes,
                "ids": [s.id for s in selection.scenarios],
            },
            "config": to_json(config),
            "versions": provenance.versions(),
            "git_revision": provenance.git_revision(),
        },
    )
    shown = [e for e in played if e.model not in BASELINES]
    write_whole(config.out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_whole(config.out / "report.html", page(report, shown, {s.id: s.to_json() for s in selection.scenarios}))
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
        try:
            before |= json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise UsageError(f"{file}: found no JSON, expected the record of a run. Give another --out.") from None
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


@dataclass(frozen=True)
class _Run:
    config: EvalConfig
    runtime: str
    selection: worlds.Selection
    field: Sequence[Contestant]
    episodes: EpisodeLog
    should_stop: Callable[[], bool]

    @property
    def jobs(self) -> list[worlds.Job]:
        """All sessions of the run: contestants next to each other, so that an engine can batch them."""
        scenarios = self.selection.scenarios
        rounds = [(sample, scenario) for sample in range(self.config.repeats) for scenario in scenarios]
        jobs = [worlds.Job(c.name, scenario, sample) for sample, scenario in rounds for c in self.field]
        idle = BASELINES if self.config.baselines else ()
        return jobs + [worlds.Job(name, scenario, 0) for scenario in scenarios for name in idle]

    @property
    def left(self) -> list[worlds.Job]:
        """The sessions without a result; one that an infrastructure error spoilt has none."""
        done = {e.key for e in self.episodes.episodes if not e.infrastructure}
        return [job for job in self.jobs if job.key not in done]


def _play_all(run: _Run, base: Base | None) -> list[str]:
    """Play what is not played yet, and what an infrastructure error spoilt again; return notes for the report."""
    config, todo = run.config, run.left
    log.info("%d of %d sessions to play on %s", len(todo), len(run.jobs), run.runtime)
    if not todo:
        return []
    tokenizer = None
    if config.tokenizer is not None:
        from tiararodney.sekft.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(hub.find(config.tokenizer, hub.TOKENIZER, "--tokenizer"))
    servers = [
        EndpointPlayer(c.name, endpoints(config, c.name), config, tokenizer) for c in run.field if c.kind == ENDPOINT
    ]
    players: dict[str, Player] = worlds.scripts(config.seed) | {server.name: server for server in servers}
    local = [c for c in run.field if c.kind in LOCAL and c.name in {job.model for job in todo}]
    with ExitStack() as stack:
        cancel = None
        if local:
            models, cancel = stack.enter_context(local_players(config, base, local))
            players |= models
        for attempt in range(PASSES):
            if attempt:
                log.warning("%d sessions met infrastructure errors: playing them again", len(todo))
                with suppress(UsageError, RunFailed):  # whether it is back shows when the next world is opened
                    worlds.resolve_runtime(run.runtime, PATIENCE)
            with watching(todo, [c.name for c in run.field], run.episodes.episodes) as watch:

                def keep(job: worlds.Job, bare: Episode, watch: Watch = watch) -> None:
                    episode = replace(bare, finished=provenance.now())
                    run.episodes.append(episode)
                    watch.finished(job, episode)

                worlds.play(todo, players, keep, watch.turn, run.runtime, config, run.should_stop, cancel)
            todo = run.left
            if not todo:
                break
    # A reply without content: a parser of the server's own may have taken it.
    notes = [
        f"{server.name}: {n} replies had {why}. If the server parses tool calls or reasoning out of replies, serve "
        "the model without that parser."
        for server in servers
        for why, n in server.silent.items()
    ]
    for note in notes:
        log.warning(note)
    return notes
