"""Trainings and evaluations on a resident's base: what sweep and cycle are made of, and what watches a training."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.operators import local_player
from tiararodney.sekft.eval.outcomes import rates
from tiararodney.sekft.eval.run import evaluate
from tiararodney.sekft.render import apply_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.resident.state import Resident
    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.config import BehaviourFlags, TrainConfig


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings, by the flags' names in dashes or underscores, as flags; a list repeats its flag."""
    argv = []
    for name, value in settings.items():
        flag = str(name).replace("_", "-")
        if isinstance(value, bool):
            argv.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            argv += [f"--{flag}={item}" for item in (value if isinstance(value, list | tuple) else [value])]
    return argv


def check_training(resident: Resident, argv: Sequence[str], prog: str) -> None:
    """Refuse flags of a training that cannot be used, before anything is run."""
    from tiararodney.sekft.sft.config import read, train_config

    if train_config(read([*argv, "--out=unused"], prog, resident.base.settings())) is None:
        raise UsageError(f"{prog}: --inspect trains nothing. Leave it out.")


def train_once(resident: Resident, argv: Sequence[str], out: Path) -> None:
    """Train an adapter unless it is there, going on where an interrupted run has left a checkpoint."""
    from tiararodney.sekft.resident.commands import train
    from tiararodney.sekft.sft.checkpoint import checkpoint_folder

    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        train(resident, *argv, f"--out={out}", *["--resume"] * checkpoint_folder(out).exists())


def evaluate_all(resident: Resident, config: EvalConfig, adapters: Mapping[str, Path]) -> dict[str, Any]:
    """Play adapters, by name, beside the configuration's; return the report. What was played is not played again."""
    named = tuple(Path(f"{name}={folder}") for name, folder in adapters.items())
    return evaluate(replace(config, adapters=(*config.adapters, *named)), resident.base, resident.should_stop)


def make_judge(resident: Resident, config: TrainConfig, flags: BehaviourFlags) -> Judge:
    """Return what plays the adapter that a training has on the resident's base.

    Raises:
        UsageError: the scenarios cannot be read, or no runtime can be used.
    """
    from tiararodney.sekft.model import Generator
    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.lora import NAME

    assert flags.eval_scenarios is not None
    selection = worlds.select(flags.eval_scenarios, flags.eval_n, None)
    played = EvalConfig(scenarios=flags.eval_scenarios, out=config.out)
    runtime = worlds.resolve_runtime(played.runtime)
    jobs = [worlds.Job(NAME, scenario, 0) for scenario in selection.scenarios]
    tokenizer = apply_policy(resident.base.tokenizer, config.control_tokens)

    def success() -> float:
        # The weights have changed in place since the last time: nothing that was computed with them holds.
        generator = Generator(resident.base, max_batch=played.concurrency)
        players = {NAME: local_player(NAME, generator, tokenizer, played)}
        episodes: list[Episode] = []
        worlds.play(jobs, players, episodes.append, lambda *_: None, runtime, played, resident.should_stop)
        rate = rates(episodes)["success"]
        return rate.k / rate.n if rate.n else nan

    return Judge(flags.eval_every, success, {"scenarios": selection.digests, "every": flags.eval_every})
