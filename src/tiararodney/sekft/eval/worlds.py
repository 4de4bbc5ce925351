"""The one file of the evaluation that knows posix-sdc: picks scenarios, plays them, returns episodes."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc import errors as theirs
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval.episodes import Check, Episode, Generation
from tiararodney.sekft.eval.operators import NoAnswer, SessionOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tiararodney.posix_sdc.schema import Scenario, Trajectory
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.operators import Player


@dataclass(frozen=True)
class Selection:
    """The scenarios of a run.

    Args:
        scenarios: in the order in which they are played.
        found: how many there were to choose from.
        quarantined: how many were left out because they are quarantined.
    """

    scenarios: tuple[Scenario, ...]
    found: int
    quarantined: int

    @property
    def archetypes(self) -> dict[str, int]:
        """Number of scenarios of each archetype, in alphabetical order."""
        kinds = [s.archetype for s in self.scenarios]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    @property
    def notes(self) -> list[str]:
        """What bundles say of verdicts that are reached in another way than by a checker of their own maker."""
        told = [str(by) for s in self.scenarios if (by := s.checker.extra.get("judged_by"))]
        return [f"{told.count(by)} of {len(self.scenarios)} scenarios are judged by {by}." for by in sorted(set(told))]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each scenario's JSON, by id."""
        return {s.id: _digest(s) for s in self.scenarios}


def _digest(scenario: Scenario) -> str:
    text = json.dumps(scenario.to_json(), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    groups: dict[str, list[Scenario]] = {}
    for scenario in usable:
        groups.setdefault(scenario.archetype, []).append(scenario)
    rounds = max(len(group) for group in groups.values())
    taken = [groups[a][i] for i in range(rounds) for a in sorted(groups) if i < len(groups[a])]
    return Selection(tuple(taken[:n]), len(usable), sum(bool(s.quarantine) for s in loaded))


def resolve_runtime(name: str) -> str:
    """Return the runtime that a name stands for here, ``docker`` or ``bwrap``.

    Raises:
        UsageError: neither, or not the one asked for, can be used on this machine.
    """
    from tiararodney.posix_sdc.world import resolve_runtime as resolve

    with our_errors():
        return str(resolve(name))


def wait_for_runtime(runtime: str, seconds: float) -> None:
    """Wait until the runtime answers, so long at most; whether it does shows when the next world is opened."""
    from tiararodney.posix_sdc.world import resolve_runtime as resolve

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            resolve(runtime)
        except theirs.PosixSdcError:
            time.sleep(1.0)
        else:
            return


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
    def key(self) -> str:
        """What the session's samples are drawn by: the same for every contestant, so that pairs share their seeds."""
        return f"{self.scenario.id}/{self.sample}"


class Reference:
    """Plays what each bundle's reference solution says (a `Player`); it looks before it acts, as a person would.

    Args:
        selection: the scenarios that it is asked to play.
        seed: of its choices.
    """

    def __init__(self, selection: Selection, seed: int) -> None:
        self._scenarios, self._seed = {s.id: s for s in selection.scenarios}, seed

    def session(self, key: str) -> SessionOperator:
        """Return who acts in one session, by a job's key."""
        from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator

        name, _, sample = key.rpartition("/")
        operator = ReferenceOperator(self._scenarios[name], self._seed, int(sample))

        def answer(messages: Sequence[Mapping[str, str]]) -> tuple[str, Generation]:
            if not any(m["role"] == "assistant" for m in messages):
                operator.reset()
            return operator.reply(messages), Generation(0)

        return SessionOperator(operator.name, answer)


class _Watched:
    """An operator as posix-sdc's session loop takes it, with our errors as its own and each turn reported."""

    def __init__(self, operator: SessionOperator, turn: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        self._operator, self._turn, self._should_stop = operator, turn, should_stop
        self.name = operator.name

    def reset(self) -> None:
        self._operator.reset()

    def reply(self, messages: Sequence[Mapping[str, str]]) -> str:
        self._turn(sum(m["role"] == "assistant" for m in messages) + 1)
        if self._should_stop():
            raise KeyboardInterrupt
        try:
            return self._operator.reply(messages)
        except NoAnswer as error:
            raise theirs.InfrastructureError(str(error)) from error


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
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.world import Limits, abort_worlds, close_worlds

    limits = Limits(command_seconds=config.command_seconds)

    def one(job: Job) -> tuple[Job, Episode]:
        operator = players[job.model].session(job.key)
        watched = _Watched(operator, lambda n: turn(job, n), should_stop)
        begun = time.monotonic()
        trajectory = run_session(job.scenario, watched, runtime, limits, config.max_turns)
        episode = to_episode(trajectory, job.model, runtime)
        return job, replace(
            episode,
            sample=job.sample,
            generations=tuple(operator.generations),
            seconds=round(time.monotonic() - begun, 3),
        )

    def abort() -> None:
        abort_worlds()
        if cancel is not None:
            cancel()

    with our_errors():
        try:
            each(config.concurrency, jobs, one, lambda result: keep(*result), abort)
        finally:
            close_worlds()  # which lets this process, a resident's, open worlds again


def to_episode(trajectory: Trajectory, model: str, runtime: str) -> Episode:
    """Turn a trajectory into an episode; keys of `meta` that are absent become None, not a failure."""
    meta: Mapping[str, Any] = trajectory.meta
    broken = trajectory.outcome in ("infrastructure", "bad_bundle")  # neither is the model's failure
    prose, clean = meta.get("prose_turns"), meta.get("clean")
    prose_turns = prose if isinstance(prose, int) else None if prose is None else len(prose)
    if not isinstance(clean, bool):
        clean = None if prose_turns is None else prose_turns == 0
    return Episode(
        model=model,
        scenario_id=trajectory.scenario_id,
        archetype=trajectory.archetype,
        terminal=trajectory.terminal,
        outcome=trajectory.outcome,
        verified=trajectory.verified,
        keep=trajectory.keep,
        ended=meta.get("ended") or None,
        commands=int(meta.get("commands", trajectory.steps)),
        clean=clean,
        prose_turns=prose_turns,
        runtime=str(meta.get("runtime") or runtime),
        infrastructure=str(meta.get("reason") or "unknown") if broken else "",
        checker=str(meta.get("detail") or ""),
        checks=_checks(meta.get("checks")),
        messages=tuple({"role": t.role, "content": t.content} for t in trajectory.turns),
    )


def correct(
    episodes: Sequence[Episode],
    selection: Selection,
    name: str,
    keep: Callable[[dict[str, Any]], None],
    runtime: str,
    width: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Let the reference operator continue sessions that went wrong, each from the state that it was in.

    Args:
        episodes: the sessions.
        selection: with their scenarios.
        name: of who acts in the corrected ones, for the record.
        keep: given every trajectory, as JSON values, when it finishes, in this thread; its `keep` is false where the
            operator found no way either.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        width: sessions at a time.
        should_stop: asked before each session; True ends all as Ctrl-C does.

    Raises:
        RunFailed: the machine cannot hold worlds any more.
    """
    from tiararodney.posix_sdc import rollout
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.world import abort_worlds, close_worlds

    scenarios = {scenario.id: scenario for scenario in selection.scenarios}

    def one(episode: Episode) -> dict[str, Any]:
        if should_stop():
            raise KeyboardInterrupt
        scenario = scenarios[episode.scenario_id]
        return rollout.correct(scenario, episode.messages, runtime, sample=episode.sample, name=name).to_json()

    with our_errors():
        try:
            each(width, episodes, one, keep, abort_worlds)
        finally:
            close_worlds()


def _checks(listed: Any) -> tuple[Check, ...]:
    """Read a verdict's checks from `meta`: name to whether it passed. Another shape lists none."""
    if not isinstance(listed, dict):
        return ()
    return tuple(Check(str(name), bool(passed)) for name, passed in listed.items())
