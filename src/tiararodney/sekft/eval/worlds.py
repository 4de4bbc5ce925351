"""The one file of the evaluation that knows posix-sdc: picks scenarios, plays them, returns episodes."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc import errors as theirs
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval.episodes import Episode
from tiararodney.sekft.eval.operators import BASELINES
from tiararodney.sekft.eval.statistics import group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tiararodney.posix_sdc.rollout import Operator
    from tiararodney.posix_sdc.schema import Scenario, Trajectory
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.operators import Player


@dataclass(frozen=True)
class Selection:
    """The scenarios of a run.

    Args:
        scenarios: in the order in which they are played.
        quarantined: how many were left out because they are quarantined.
    """

    scenarios: tuple[Scenario, ...]
    quarantined: int

    @property
    def archetypes(self) -> dict[str, int]:
        """Number of scenarios of each archetype, in alphabetical order."""
        return dict(Counter(sorted(s.archetype for s in self.scenarios)))

    @property
    def notes(self) -> list[str]:
        """What bundles say of verdicts that are reached in another way than by a checker of their own maker."""
        judges = Counter(str(by) for s in self.scenarios if (by := s.checker.extra.get("judged_by")))
        return [f"{n} of {len(self.scenarios)} scenarios are judged by {by}." for by, n in sorted(judges.items())]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each scenario's JSON, by id."""
        texts = {s.id: json.dumps(s.to_json(), sort_keys=True, ensure_ascii=True) for s in self.scenarios}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


@contextmanager
def our_errors() -> Iterator[None]:
    """Turn posix-sdc's errors into ours of the same meaning."""
    try:
        yield
    except theirs.UsageError as error:
        raise UsageError(str(error)) from error
    except theirs.InfrastructureError as error:
        raise RunFailed(str(error)) from error


def select(path: Path, n: int | None, split: str | None) -> Selection:
    """Load scenarios and take n of them, in turn from every archetype, each archetype in the order of its files.

    Args:
        path: folder or file of bundles.
        n: how many; None for all. Where there are fewer, all are taken.
        split: only of this split; None for all.

    Raises:
        UsageError: the path is missing or empty, a bundle cannot be read, or none is left.
    """
    from tiararodney.posix_sdc.schema import load_scenarios

    with our_errors():
        loaded = load_scenarios(path)
    usable = [s for s in loaded if not s.quarantine and (split is None or s.split == split)]
    if not usable:
        splits = ", ".join(sorted({s.split for s in loaded}))
        raise UsageError(
            f"--scenarios {path}: found {len(loaded)} bundles (split {splits}), none that is not quarantined"
            + (f" and of split {split}" if split else "")
            + ". Give another folder, or another --split."
        )
    groups = group([s.archetype for s in usable], usable)
    rounds = zip_longest(*(groups[archetype] for archetype in sorted(groups)))
    taken = [scenario for one in rounds for scenario in one if scenario is not None]
    return Selection(tuple(taken[:n]), sum(bool(s.quarantine) for s in loaded))


def resolve_runtime(name: str, patience: float = 0.0) -> str:
    """Return the runtime that a name stands for here, ``docker`` or ``bwrap``.

    Args:
        name: one of them, or ``auto``.
        patience: seconds to wait for one that does not answer.

    Raises:
        UsageError: neither, or not the one asked for, can be used on this machine.
        RunFailed: its engine does not answer.
    """
    from tiararodney.posix_sdc import world

    until = time.monotonic() + patience
    with our_errors():
        while True:
            try:
                return str(world.resolve_runtime(name))
            except theirs.PosixSdcError:
                if time.monotonic() >= until:
                    raise
            time.sleep(1.0)


@dataclass(frozen=True)
class Job:
    """One session to play.

    Args:
        model: name of the contestant.
        scenario: the world.
        sample: which repeat of the scenario, from 0.
    """

    model: str
    scenario: Scenario
    sample: int

    @property
    def key(self) -> tuple[str, str, int]:
        """As `Episode.key`."""
        return self.model, self.scenario.id, self.sample


def scripts(seed: int) -> dict[str, Player]:
    """Return who plays without a model: those that do nothing, and the reference operator, by name."""
    from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator, ScriptedOperator

    def idle(name: str) -> Player:
        return lambda *_: ScriptedOperator(BASELINES[name], name)

    reference = {"reference": lambda scenario, sample: ReferenceOperator(scenario, seed, sample)}
    return {name: idle(name) for name in BASELINES} | reference


class _Watched:
    """An operator in posix-sdc's session loop: each turn is reported, and a wish to stop is heard before it."""

    def __init__(self, operator: Operator, turn: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        self._operator, self._turn, self._should_stop = operator, turn, should_stop
        self.reset = getattr(operator, "reset", lambda: None)

    def reply(self, messages: Sequence[Mapping[str, str]]) -> str:
        self._turn(sum(m["role"] == "assistant" for m in messages) + 1)
        if self._should_stop():
            raise KeyboardInterrupt
        return self._operator.reply(messages)


@contextmanager
def _side_by_side(cancel: Callable[[], None] | None = None) -> Iterator[Callable[..., None]]:
    """Yield posix-sdc's loop over many sessions, with its errors as ours; an interrupt ends worlds and replies."""
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.world import abort_worlds, close_worlds

    def abort() -> None:
        abort_worlds()
        if cancel is not None:
            cancel()

    with our_errors():
        try:
            yield partial(each, abort=abort)
        finally:
            close_worlds()  # which lets this process, a resident's, open worlds again


def play(
    jobs: Iterable[Job],
    players: Mapping[str, Player],
    keep: Callable[[Job, Episode], None],
    turn: Callable[[Job, int], None],
    runtime: str,
    config: EvalConfig,
    should_stop: Callable[[], bool] = lambda: False,
    cancel: Callable[[], None] | None = None,
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
        RunFailed: the machine cannot hold worlds any more, or a server answers nobody.
    """
    from tiararodney.posix_sdc.rollout import run_session
    from tiararodney.posix_sdc.world import Limits

    limits = Limits(command_seconds=config.command_seconds)

    def one(job: Job) -> tuple[Job, Episode]:
        operator = players[job.model](job.scenario, job.sample)
        watched = _Watched(operator, lambda n: turn(job, n), should_stop)
        begun = time.monotonic()
        trajectory = run_session(job.scenario, watched, runtime, limits, config.max_turns)
        return job, replace(
            to_episode(trajectory, job.model, runtime),
            sample=job.sample,
            generations=tuple(getattr(operator, "generations", ())),
            seconds=round(time.monotonic() - begun, 3),
        )

    with _side_by_side(cancel) as each:
        each(config.concurrency, jobs, one, lambda result: keep(*result))


def to_episode(trajectory: Trajectory, model: str, runtime: str) -> Episode:
    """Turn a trajectory into an episode."""
    meta: Mapping[str, Any] = trajectory.meta
    broken = trajectory.outcome in ("infrastructure", "bad_bundle")  # neither is the model's failure
    same = ("scenario_id", "archetype", "terminal", "outcome", "verified", "keep")
    return Episode(
        model=model,
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

    Args:
        episodes: the sessions.
        selection: with their scenarios.
        name: of who acts in the corrected ones, for the record.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        width: sessions at a time.
        should_stop: asked before each session; True ends all as Ctrl-C does.

    Returns:
        Trajectories as JSON values, by id; `keep` is false where the operator found no way either.

    Raises:
        RunFailed: the machine cannot hold worlds any more.
    """
    from tiararodney.posix_sdc import rollout

    scenarios = {scenario.id: scenario for scenario in selection.scenarios}
    out: list[dict[str, Any]] = []

    def one(episode: Episode) -> dict[str, Any]:
        if should_stop():
            raise KeyboardInterrupt
        scenario = scenarios[episode.scenario_id]
        return rollout.correct(scenario, episode.messages, runtime, sample=episode.sample, name=name).to_json()

    with _side_by_side() as each:
        each(width, episodes, one, out.append)
    return sorted(out, key=lambda record: str(record["id"]))
