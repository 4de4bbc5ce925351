"""Best checkpoint by behaviour: between steps, the adapter in training is played in worlds on the same hot base."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.operators import local_player
from tiararodney.sekft.eval.outcomes import rates
from tiararodney.sekft.render import apply_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.model import Base
    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.config import BehaviourFlags, TrainConfig


def make_judge(base: Base, config: TrainConfig, flags: BehaviourFlags, should_stop: Callable[[], bool]) -> Judge:
    """Return what plays the adapter that a training has on the base.

    Args:
        base: the hot base.
        config: the training's.
        flags: in which worlds, and how often.
        should_stop: asked before each reply.

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
    tokenizer = apply_policy(base.tokenizer, config.control_tokens)

    def success() -> float:
        # The weights have changed in place since the last time: nothing that was computed with them holds.
        generator = Generator(base, max_batch=played.concurrency)
        player = local_player(NAME, generator, tokenizer, played)
        episodes: list[Episode] = []
        worlds.play(jobs, {NAME: player}, episodes.append, lambda *_: None, runtime, played, should_stop)
        rate = rates(episodes)["success"]
        return rate.k / rate.n if rate.n else nan

    return Judge(flags.eval_every, success, {"scenarios": selection.digests, "every": flags.eval_every})
