"""The one file of the evaluation that knows posix-sdc: picks scenarios, plays them, returns episodes.

posix-sdc's errors pass unchanged: they carry exit codes as ours do.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import PosixSdcError
from tiararodney.sekft import provenance
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.contestants import BASELINES
from tiararodney.sekft.eval.episodes import Episode
from tiararodney.sekft.eval.statistics import group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tiararodney.posix_sdc.rollout import Operator
    from tiararodney.posix_sdc.schema import Scenario, Trajectory
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.episodes import Generation
    from tiararodney.sekft.eval.operators import Answer, Messages, Player


@dataclass(frozen=True)
class Selection:
    """The scenarios of a run, in the order in which they are played, and how many others were left out."""

    scenarios: tuple[Scenario, ...]
    quarantined: int

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each scenario's JSON, by id."""
        texts = {s.id: json.dumps(s.to_json(), sort_keys=True, ensure_ascii=True) for s in self.scenarios}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def select(path: Path, n: int | None, split: str | None) -> Selection:
    """Load scenarios and take n of them, in turn from every archetype, each archetype in the order of its files.

    Where there are fewer, or n is None, all are taken; `split` None takes those of all splits.

    Raises:
        UsageError: ours or posix-sdc's: the path is missing or empty, a bundle cannot be read, or none is left.
    """
    from tiararodney.posix_sdc.schema import load_scenarios

    loaded = load_scenarios(path)
    usable = [s for s in loaded if not s.quarantine and split in (None, s.split)]
    if not usable:
        splits = ", ".join(sorted({s.split for s in loaded}))
        wanted = f" and of split {split}" if split else ""
        raise UsageError(
            f"--scenarios {path}: found {len(loaded)} bundles (split {splits}), none that is not quarantined{wanted}. "
            "Give another folder, or another --split."
        )
    groups = group([s.archetype for s in usable], usable)
    rounds = zip_longest(*(groups[archetype] for archetype in sorted(groups)))
    taken = [scenario for one in rounds for scenario in one if scenario is not None]
    return Selection(tuple(taken[:n]), sum(bool(s.quarantine) for s in loaded))


def resolve_runtime(name: str, patience: float = 0.0) -> str:
    """Return the runtime that a name (``auto`` too) stands for here; wait `patience` seconds for one to answer.

    Raises:
        PosixSdcError: neither, or not the one asked for, can be used on this machine, or its engine does not answer.
    """
    from tiararodney.posix_sdc import world

    until = time.monotonic() + patience
    while True:
        try:
            return str(world.resolve_runtime(name))
        except PosixSdcError:
            if time.monotonic() >= until:
                raise
        time.sleep(1.0)


@dataclass(frozen=True)
class Job:
    """One session to play."""

    model: str  # the contestant's name
    scenario: Scenario
    sample: int  # which repeat of the scenario, from 0

    @property
    def key(self) -> tuple[str, str, int]:
        """As `Episode.key`."""
        return self.model, self.scenario.id, self.sample


def scripts(seed: int) -> dict[str, Player]:
    """Return who plays without a model: those that do nothing, and the reference operator, by name."""
    from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator, ScriptedOperator

    def answers(operator: Operator) -> Answer:
        return lambda messages: (operator.reply(messages), None)

    def idle(said: Sequence[str]) -> Player:
        return lambda *_: answers(ScriptedOperator(said))

    reference = {"reference": lambda scenario, sample: answers(ReferenceOperator(scenario, seed, sample))}
    return {name: idle(said) for name, said in BASELINES.items()} | reference


class _Operator:
    """Plays one session in posix-sdc's loop: each turn is reported, and a wish to stop is heard before it."""

    def __init__(self, job: Job, player: Player, turn: Callable[[Job, int], None], should_stop: Callable[[], bool]):
        self._job, self._player, self._turn, self._should_stop = job, player, turn, should_stop

    def reset(self) -> None:
        """Begin an attempt at the session."""
        self._answer = self._player(self._job.scenario, self._job.sample)
        self.generations: list[Generation] = []

    def reply(self, messages: Messages) -> str:
        self._turn(self._job, sum(m["role"] == "assistant" for m in messages) + 1)
        if self._should_stop():
            raise KeyboardInterrupt
        text, generation = self._answer(messages)
        if generation is not None:
            self.generations.append(generation)
        return text


def _side_by_side(
    width: int, items: Iterable[Any], act: Callable[[Any], Any], keep: Callable[[Any], Any], cancel: Callable[[], None]
) -> None:
    """Run `act` on `width` items at a time; an interrupt ends worlds and, by `cancel`, replies under way."""
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.world import abort_worlds, close_worlds

    def abort() -> None:
        abort_worlds()
        cancel()

    try:
        each(width, items, act, keep, abort)
    finally:
        close_worlds()  # which lets this process, a resident's, open worlds again


def play(
    jobs: Iterable[Job],
    players: Mapping[str, Player],
    keep: Callable[[Episode], None],
    turn: Callable[[Job, int], None],
    runtime: str,
    config: EvalConfig,
    should_stop: Callable[[], bool] = lambda: False,
    cancel: Callable[[], None] = lambda: None,
) -> None:
    """Play sessions side by side, each in a fresh world and at its own pace.

    Args:
        jobs: what to play, in order.
        players: by contestant.
        keep: given every episode as it finishes, in this thread.
        turn: told when a session asks for its n-th reply, in the session's thread.
        runtime: as `resolve_runtime` gave it.
        config: the bounds of a session, and how many live at once.
        should_stop: asked before each reply; True ends all sessions as Ctrl-C does.
        cancel: ends the replies under way, once the run is interrupted.

    Raises:
        InfrastructureError: the machine cannot hold worlds any more.
        RunFailed: a server answers nobody.
    """
    from tiararodney.posix_sdc.rollout import run_session
    from tiararodney.posix_sdc.world import Limits

    limits = Limits(command_seconds=config.command_seconds)

    def one(job: Job) -> Episode:
        operator, begun = _Operator(job, players[job.model], turn, should_stop), time.monotonic()
        trajectory = run_session(job.scenario, operator, runtime, limits, config.max_turns)
        seconds, notes = round(time.monotonic() - begun, 3), tuple(operator.generations)
        return replace(to_episode(trajectory, job, runtime), generations=notes, seconds=seconds)

    _side_by_side(config.concurrency, jobs, one, keep, cancel)


def to_episode(trajectory: Trajectory, job: Job, runtime: str) -> Episode:
    """Turn the trajectory of a session that ended just now into an episode."""
    meta: Mapping[str, Any] = trajectory.meta
    broken = trajectory.outcome in ("infrastructure", "bad_bundle")  # neither is the model's failure
    same = ("scenario_id", "archetype", "terminal", "outcome", "verified", "keep")
    return Episode(
        model=job.model,
        sample=job.sample,
        finished=provenance.now(),
        **{name: getattr(trajectory, name) for name in same},
        ended=meta.get("ended") or None,
        commands=int(meta.get("commands", trajectory.steps)),
        clean=bool(meta.get("clean")),
        prose_turns=len(meta.get("prose_turns", ())),
        runtime=str(meta.get("runtime") or runtime),
        infrastructure=str(meta.get("reason") or "unknown") if broken else "",
        checker=str(meta.get("detail") or ""),
        checks=dict(meta.get("checks", {})),
        messages=tuple({"role": t.role, "content": t.content} for t in trajectory.turns),
    )


def correct(
    episodes: Sequence[Episode],
    selection: Selection,
    name: str,
    runtime: str,
    width: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """Let the reference operator continue sessions that went wrong, each from the state that it was in.

    `width` go on at a time; `should_stop`, asked before each, ends all as Ctrl-C does. The records call the operator
    `name`.

    Returns:
        Trajectories as JSON values, by id; `keep` is false where the operator found no way either.
    """
    from tiararodney.posix_sdc import rollout

    scenarios = {scenario.id: scenario for scenario in selection.scenarios}
    out: list[dict[str, Any]] = []

    def one(episode: Episode) -> dict[str, Any]:
        if should_stop():
            raise KeyboardInterrupt
        scenario = scenarios[episode.scenario_id]
        return rollout.correct(scenario, episode.messages, runtime, sample=episode.sample, name=name).to_json()

    _side_by_side(width, episodes, one, out.append, lambda: None)
    return sorted(out, key=lambda record: str(record["id"]))
