"""The evaluation as one flow: scenarios, contestants, episodes, report."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import provenance
from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.contestants import contestants
from tiararodney.sekft.eval.episodes import EpisodeLog
from tiararodney.sekft.eval.inspect_log import write_inspect_logs
from tiararodney.sekft.eval.junit import junit_xml
from tiararodney.sekft.eval.operators import EndpointOperator, ModelOperator, stop_ids
from tiararodney.sekft.eval.page import page
from tiararodney.sekft.eval.report import Contestant, build_report
from tiararodney.sekft.folders import write_whole
from tiararodney.sekft.render import contract_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.operators import BatchOperator
    from tiararodney.sekft.model import Base

log = logging.getLogger(__name__)

_NO_CONTEXT = 1 << 30
_BOUND = ("max_turns", "max_new_tokens", "temperature", "seed", "load_4bit", "dtype", "command_seconds", "endpoint")
"""Settings that an episode depends on: a run that resumes must have the same."""


def evaluate(config: EvalConfig, base: Base | None = None) -> dict[str, Any]:
    """Play every contestant on the same scenarios and write the report.

    Args:
        config: what, on what, and how.
        base: a base that is loaded already (a resident's); it is used as it is and left bit for bit as it was.

    Returns:
        The report, as written to ``report.json``.

    Raises:
        UsageError: an input cannot be used.
        RunFailed: the run broke off; what was played is kept, the same call goes on from there.
    """
    started = provenance.now()
    selection = worlds.select(config.scenarios, config.n, config.split)
    if config.n is not None and len(selection.scenarios) < config.n:
        log.warning("--n %d: there are only %d scenarios, all are played", config.n, len(selection.scenarios))
    runtime = worlds.resolve_runtime(config.runtime)
    field = _contestants(config, base)
    precision = _precision(config, base)
    config.out.mkdir(parents=True, exist_ok=True)
    _claim(config.out / "run.json", _identity(config, runtime, field, selection, precision))
    with closing(EpisodeLog(config.out / "episodes.jsonl")) as episodes:
        _play_all(_Run(config, runtime, selection, field, episodes), base)
        played = _latest(episodes.episodes, field, selection)
    report = build_report(
        field,
        played,
        {
            "started": started,
            "finished": provenance.now(),
            "runtime": runtime,
            "scenarios": {
                "path": str(config.scenarios),
                "n": len(selection.scenarios),
                "quarantined": selection.quarantined,
                "archetypes": selection.archetypes,
                "ids": [s.id for s in selection.scenarios],
            },
            "config": config.to_json(),
            "precision": precision,
            "versions": provenance.versions(),
            "git_revision": provenance.git_revision(),
        },
    )
    write_whole(config.out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_whole(config.out / "report.html", page(report, played, {s.id: s.to_json() for s in selection.scenarios}))
    if config.junit is not None:
        write_whole(config.junit, junit_xml(report, played))
    if config.log_format == "inspect":
        write_inspect_logs(report, played, config.out / "inspect")
    return report


@dataclass(frozen=True)
class _Run:
    config: EvalConfig
    runtime: str
    selection: worlds.Selection
    field: Sequence[Contestant]
    episodes: EpisodeLog


def _contestants(config: EvalConfig, base: Base | None) -> list[Contestant]:
    if config.endpoint is not None:
        field = contestants(config, None, "", None)
        for contestant in field:
            _endpoint(config, contestant).endpoint.check()
        return field
    if base is not None:
        return contestants(config, base.path, base.fingerprint, base.tokenizer)
    assert config.base is not None
    from tiararodney.sekft.model import base_fingerprint
    from tiararodney.sekft.model.base import find_folder
    from tiararodney.sekft.tokenizer import load_tokenizer

    folder = find_folder(config.base)
    return contestants(config, folder, base_fingerprint(folder), load_tokenizer(folder))


def _play_all(run: _Run, base: Base | None) -> None:
    """Play what is not played yet, one contestant after the other."""
    left = {c.name: _left(run, c) for c in run.field}
    with ExitStack() as attached:
        if any(c.kind != "endpoint" and left[c.name] for c in run.field):
            base = base or _load(run.config)
            # All of them before the first session: an adapter that does not fit is told at once.
            for contestant in run.field:
                if contestant.kind == "adapter" and left[contestant.name]:
                    _attach(base, contestant, attached)
        for contestant in run.field:
            if not left[contestant.name]:
                continue
            if base is None:
                _play(run, contestant, left[contestant.name], _endpoint(run.config, contestant))
            else:
                _play_local(run, contestant, left[contestant.name], base)


def _left(run: _Run, contestant: Contestant) -> list[str]:
    """Return the ids of the scenarios to play; one that a fault of ours spoilt is played again."""
    done = {e.scenario_id for e in run.episodes.episodes if e.model == contestant.name and not e.infrastructure}
    left = [s.id for s in run.selection.scenarios if s.id not in done]
    log.info(
        "%s: %d scenarios to play, %d played before",
        contestant.name,
        len(left),
        len(run.selection.scenarios) - len(left),
    )
    return left


def _attach(base: Base, contestant: Contestant, attached: ExitStack) -> None:
    from tiararodney.sekft.model import attach_adapter, detach_adapter

    name = _attached_name(contestant)
    attach_adapter(base, contestant.path, name)
    attached.callback(detach_adapter, base, name)


def _attached_name(contestant: Contestant) -> str:
    """Return a name of the run's own: the same adapter may hang on a resident's base already."""
    return f"eval_{contestant.fingerprint[-16:]}"


def _load(config: EvalConfig) -> Base:
    from tiararodney.sekft.model import load_base

    assert config.base is not None
    return load_base(config.base, config.load_4bit, config.device, config.dtype)


def _play_local(run: _Run, contestant: Contestant, left: Sequence[str], base: Base) -> None:
    """Play the base, or the base with one adapter switched on."""
    from tiararodney.sekft.model import Generator, use_adapter

    config = run.config
    tokenizer = _tokenizer(base, contestant)
    operator = ModelOperator(
        name=contestant.name,
        generator=Generator(base),
        tokenizer=tokenizer,
        stop_ids=stop_ids(tokenizer, getattr(base.model.generation_config, "eos_token_id", None)),
        context=getattr(base.model.config, "max_position_embeddings", None) or _NO_CONTEXT,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=config.seed,
    )
    with use_adapter(base, _attached_name(contestant) if contestant.kind == "adapter" else None):
        _play(run, contestant, left, operator)


def _tokenizer(base: Base, contestant: Contestant) -> Any:
    """Return what renders for a contestant: for an adapter, the base's with the template it was trained with."""
    if contestant.kind != "adapter":
        return base.tokenizer
    try:
        return contract_tokenizer(base.tokenizer, contestant.path)
    except ContractMismatch:
        if contestant.contract == "match":
            raise
        return base.tokenizer  # it has no contract that can be read, and the user chose to go on


def _endpoint(config: EvalConfig, contestant: Contestant) -> EndpointOperator:
    from tiararodney.sekft.endpoint import Endpoint, endpoint_key

    endpoint = Endpoint(contestant.path, contestant.name, endpoint_key(config.api_key_env), config.request_seconds)
    return EndpointOperator(
        contestant.name, endpoint, config.batch_size, config.max_new_tokens, config.temperature, config.seed
    )


def _play(run: _Run, contestant: Contestant, left: Sequence[str], operator: BatchOperator) -> None:
    for number, bare in enumerate(
        worlds.play(run.selection, left, operator, contestant.name, run.runtime, run.config), 1
    ):
        notes = operator.notes.of_session(bare.messages)
        episode = replace(bare, generations=notes, finished=provenance.now())
        run.episodes.append(episode)
        log.info(
            "%s %d/%d %s: %s after %d turns",
            contestant.name,
            number,
            len(left),
            episode.scenario_id,
            episode.outcome,
            episode.commands,
        )


def _latest(episodes: Sequence[Episode], field: Sequence[Contestant], selection: worlds.Selection) -> list[Episode]:
    """Return the last episode of every contestant and scenario; it supersedes an earlier infrastructure error."""
    last = {(e.model, e.scenario_id): e for e in episodes}
    keys = [(c.name, s.id) for c in field for s in selection.scenarios]
    return [last[key] for key in keys if key in last]


# ---------------------------------------------------------------------------------------------------------- resume


def _identity(
    config: EvalConfig,
    runtime: str,
    field: Sequence[Contestant],
    selection: worlds.Selection,
    precision: dict[str, str] | None,
) -> dict[str, dict[str, Any]]:
    """Return what an episode's result depends on."""
    values = config.to_json()
    if precision is not None:
        values["dtype"] = precision["dtype"]
    return {
        "settings": {"runtime": runtime} | {name: values[name] for name in _BOUND},
        "models": {c.name: c.fingerprint for c in field},
        "scenarios": selection.digests,
    }


def _precision(config: EvalConfig, base: Base | None) -> dict[str, str] | None:
    """Return the compute type of a local model and why it was chosen; None for an endpoint."""
    if config.endpoint is not None:
        return None
    if base is not None:
        return {"dtype": str(base.dtype).removeprefix("torch."), "reason": base.dtype_reason}
    from tiararodney.sekft.model.base import find_device
    from tiararodney.sekft.model.precision import choose_dtype

    chosen = choose_dtype(config.dtype, find_device(config.device))
    return {"dtype": chosen.name, "reason": chosen.reason}


def _claim(file: Path, identity: dict[str, dict[str, Any]]) -> None:
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
