"""One evaluation: choose scenarios, play what is not played yet, report."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import provenance
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.contestants import check_unseen, contestants
from tiararodney.sekft.eval.episodes import EpisodeLog
from tiararodney.sekft.eval.inspect_log import write_inspect_logs
from tiararodney.sekft.eval.junit import junit_xml
from tiararodney.sekft.eval.live import watching
from tiararodney.sekft.eval.local import LocalModels, precision_of
from tiararodney.sekft.eval.operators import BASELINES, Decoding, EndpointPlayer, ScriptedPlayer
from tiararodney.sekft.eval.page import page
from tiararodney.sekft.eval.report import ENDPOINT, LOCAL, OPERATOR, Contestant, build_report
from tiararodney.sekft.eval.resume import claim, identity
from tiararodney.sekft.folders import check_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiararodney.sekft.endpoint import Endpoint
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.operators import Player
    from tiararodney.sekft.model import Base
    from tiararodney.sekft.tokenizer import FileTokenizer

log = logging.getLogger(__name__)

PASSES = 3
"""Sessions that an infrastructure error spoilt are played again at the end, so many passes in all."""
PATIENCE = 60.0
"""Seconds that a further pass waits for the runtime to answer again."""


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
    entrants = _contestants(config, base)
    precision = precision_of(config, base)
    notes = [*selection.notes, *check_unseen(config, entrants, [s.id for s in selection.scenarios])]
    config.out.mkdir(parents=True, exist_ok=True)
    claim(config.out / "run.json", identity(config, runtime, entrants, selection, precision))
    with closing(EpisodeLog(config.out / "episodes.jsonl")) as episodes:
        run = _Run(config, runtime, selection, entrants, episodes, should_stop)
        notes += _play_all(run, base)
        played = _latest(run)
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
            "config": config.to_json(),
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


@dataclass(frozen=True)
class _Run:
    config: EvalConfig
    runtime: str
    selection: worlds.Selection
    field: Sequence[Contestant]
    episodes: EpisodeLog
    should_stop: Callable[[], bool]


def _contestants(config: EvalConfig, base: Base | None) -> list[Contestant]:
    if config.operator is not None:
        return [Contestant(config.operator, OPERATOR, "")]
    if config.endpoint:
        contestants_ = contestants(config, None, "", None)
        for contestant in contestants_:
            for endpoint in _endpoints(config, contestant):
                endpoint.check()
        return contestants_
    if base is not None:
        return contestants(config, base.path, base.fingerprint, base.tokenizer)
    assert config.base is not None
    from tiararodney.sekft.model import base_fingerprint
    from tiararodney.sekft.model.base import find_folder
    from tiararodney.sekft.tokenizer import load_tokenizer

    folder = find_folder(config.base)
    return contestants(config, folder, base_fingerprint(folder), load_tokenizer(folder))


def _play_all(run: _Run, base: Base | None) -> list[str]:
    """Play what is not played yet, and sessions that an infrastructure error spoilt once more at the end.

    Returns:
        Notes for the report.
    """
    config = run.config
    todo = _left(run)
    log.info("%d of %d sessions to play on %s", len(todo), len(_jobs(run)), run.runtime)
    if not todo:
        return []
    needed = {job.model for job in todo}
    players: dict[str, Player] = {name: ScriptedPlayer(name, BASELINES[name]) for name in BASELINES}
    decoding = Decoding(config.max_new_tokens, config.temperature, config.seed)
    tokenizer = _endpoint_tokenizer(config)
    servers = [
        EndpointPlayer(c.name, _endpoints(config, c), decoding, tokenizer) for c in run.field if c.kind == ENDPOINT
    ]
    players |= {server.name: server for server in servers}
    players |= {c.name: worlds.Reference(run.selection, config.seed) for c in run.field if c.kind == OPERATOR}
    models = None
    with ExitStack() as stack:
        if any(c.kind in LOCAL and c.name in needed for c in run.field):
            models = stack.enter_context(LocalModels(config, base, [c for c in run.field if c.name in needed]))
            players |= models.players
        for attempt in range(PASSES):
            if attempt:
                log.warning("%d sessions met infrastructure errors: playing them again", len(todo))
                worlds.wait_for_runtime(run.runtime, PATIENCE)
            _play(run, todo, players, models.cancel if models else None)
            todo = _left(run)
            if not todo:
                break
    notes = [note for server in servers for note in _silence(server)]
    for note in notes:
        log.warning(note)
    return notes


def _silence(server: EndpointPlayer) -> list[str]:
    """Say that a server sent replies without content: a parser of its own may have taken them."""
    return [
        f"{server.name}: {n} replies had {why}. If the server parses tool calls or reasoning out of replies, serve "
        "the model without that parser."
        for why, n in server.silent.items()
    ]


def _play(
    run: _Run, todo: Sequence[worlds.Job], players: Mapping[str, Player], cancel: Callable[[], None] | None
) -> None:
    with watching(todo, [c.name for c in run.field], run.episodes.episodes) as watch:

        def keep(job: worlds.Job, bare: Episode) -> None:
            episode = replace(bare, finished=provenance.now())
            run.episodes.append(episode)
            watch.finished(job, episode)

        worlds.play(todo, players, keep, watch.turn, run.runtime, run.config, run.should_stop, cancel)


def _jobs(run: _Run) -> list[worlds.Job]:
    """Return all sessions of the run: contestants next to each other, so that an engine can batch them."""
    names = [c.name for c in run.field]
    jobs = [
        worlds.Job(name, scenario, sample)
        for sample in range(run.config.repeats)
        for scenario in run.selection.scenarios
        for name in names
    ]
    if run.config.baselines:
        jobs += [worlds.Job(name, scenario, 0) for scenario in run.selection.scenarios for name in BASELINES]
    return jobs


def _left(run: _Run) -> list[worlds.Job]:
    """Return the sessions without a result; one that an infrastructure error spoilt has none."""
    done = {(e.model, e.scenario_id, e.sample) for e in run.episodes.episodes if not e.infrastructure}
    return [job for job in _jobs(run) if (job.model, job.scenario.id, job.sample) not in done]


def _endpoint_tokenizer(config: EvalConfig) -> FileTokenizer | None:
    if config.tokenizer is None:
        return None
    from tiararodney.sekft import hub
    from tiararodney.sekft.tokenizer import load_tokenizer

    return load_tokenizer(hub.find(config.tokenizer, hub.TOKENIZER, "--tokenizer"))


def _endpoints(config: EvalConfig, contestant: Contestant) -> list[Endpoint]:
    from tiararodney.sekft.endpoint import Endpoint

    return [Endpoint(url, contestant.name, config.api_key_env, config.request_seconds) for url in config.endpoint]


def _latest(run: _Run) -> list[Episode]:
    """Return the last episode of every session; it supersedes an earlier infrastructure error."""
    last = {(e.model, e.scenario_id, e.sample): e for e in run.episodes.episodes}
    keys = [(job.model, job.scenario.id, job.sample) for job in _jobs(run)]
    return [last[key] for key in keys if key in last]
