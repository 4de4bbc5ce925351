"""Scenarios picked, sessions played side by side in worlds in memory, trajectories turned into episodes."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc import errors as theirs
from tiararodney.posix_sdc import world
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.episodes import Generation
from tiararodney.sekft.eval.worlds import Job, select, to_episode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.eval.episodes import Episode


JOB = Job("tuned", SimpleNamespace(id="s0"), 1)  # type: ignore[arg-type]


def bundles(folder: Path, template: Path, *archetypes: str) -> Path:
    """Write a bundle for each archetype, numbered in the order of the files."""
    folder.mkdir()
    bundle = json.loads((template / "s0.json").read_text())
    for i, archetype in enumerate(archetypes):
        (folder / f"{i}.json").write_text(json.dumps(bundle | {"id": f"{archetype}{i}", "archetype": archetype}))
    return folder


def test_scenarios_are_taken_in_turn_from_every_archetype(scenarios: Path, tmp_path: Path) -> None:
    folder = bundles(tmp_path / "many", scenarios, "b", "b", "b", "a", "c", "a")
    everything = select(folder, None, None)
    assert [s.id for s in everything.scenarios] == ["a3", "b0", "c4", "a5", "b1", "b2"]
    for n in (1, 4, 99):
        assert select(folder, n, None).scenarios == everything.scenarios[:n]


def test_a_digest_follows_the_bundle_and_not_its_layout(scenarios: Path) -> None:
    before = select(scenarios, None, None).digests
    bundle = json.loads((scenarios / "s0.json").read_text())
    (scenarios / "s0.json").write_text(json.dumps(dict(reversed(bundle.items())), indent=2))
    assert select(scenarios, None, None).digests == before
    (scenarios / "s0.json").write_text(json.dumps(bundle | {"workdir": "/elsewhere"}))
    after = select(scenarios, None, None).digests
    assert {name for name in after if after[name] != before[name]} == {"s0"}


def test_a_runtime_is_waited_for_as_long_as_patience_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [theirs.InfrastructureError("the engine is down"), theirs.NoRuntime("none"), "docker"]

    def resolve(_: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    clock = iter(range(100))
    monkeypatch.setattr(world, "resolve_runtime", resolve)
    monkeypatch.setattr(worlds.time, "sleep", lambda _: None)
    monkeypatch.setattr(worlds.time, "monotonic", lambda: next(clock))
    assert worlds.resolve_runtime("docker", 5) == "docker"
    assert answers == []


def test_a_runtime_that_stays_away_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_: str) -> str:
        raise theirs.NoRuntime("no bwrap here")

    monkeypatch.setattr(world, "resolve_runtime", resolve)
    with pytest.raises(theirs.NoRuntime, match="no bwrap here"):
        worlds.resolve_runtime("auto")


def trajectory(outcome: str = "success", **meta: Any) -> Any:
    turns = [SimpleNamespace(role="user", content="$ "), SimpleNamespace(role="assistant", content="exit")]
    return SimpleNamespace(
        scenario_id="s0", archetype="repair", terminal="exit", outcome=outcome, verified=True, keep=True, steps=1,
        turns=turns, meta=meta,
    )  # fmt: skip


def test_a_trajectory_becomes_an_episode_with_its_verdict() -> None:
    checks = {"the copy exists": True, "nothing else was made": False}
    meta = {"clean": False, "ended": "exit", "commands": 4, "prose_turns": [1, 3], "runtime": "docker"}
    e = to_episode(trajectory(checks=checks, detail="nothing else was made", **meta), JOB, "bwrap")
    assert (e.model, e.sample, e.ended, e.commands, e.clean, e.prose_turns, e.runtime) == (
        "tuned",
        1,
        "exit",
        4,
        False,
        2,
        "docker",
    )
    assert (e.checks, e.checker, e.infrastructure) == (checks, "nothing else was made", "")
    assert e.messages[1] == {"role": "assistant", "content": "exit"}


@pytest.mark.parametrize("outcome", ["infrastructure", "bad_bundle"])
def test_a_fault_of_ours_carries_its_reason(outcome: str) -> None:
    assert to_episode(trajectory(outcome, reason="engine down"), JOB, "bwrap").infrastructure == "engine down"
    assert to_episode(trajectory(outcome), JOB, "bwrap").infrastructure == "unknown"
    assert to_episode(trajectory("died", reason="shell gone"), JOB, "bwrap").infrastructure == ""


class Acting:
    """A player whose sessions do the work, each reply noted with the thread that asked for it."""

    def __init__(self, reply: Callable[[int], str] = lambda turn: ("touch done", "exit")[min(turn, 1)]) -> None:
        self.reply, self.sessions, self.threads = reply, [], set()

    def __call__(self, scenario: Any, sample: int) -> Any:
        self.sessions.append((scenario.id, sample))

        def answer(messages: Any) -> tuple[str, Generation]:
            self.threads.add(threading.get_ident())
            turn = sum(m["role"] == "assistant" for m in messages)
            return self.reply(turn), Generation(len(messages), prompt_tokens=10 + turn)

        return answer


def played(
    scenarios: Path, player: Any, samples: int = 1, should_stop: Callable[[], bool] = lambda: False, **config: Any
) -> tuple[list[Episode], list[tuple[str, int]]]:
    """Play every scenario; return what was kept, and the turns that were reported."""
    chosen = select(scenarios, None, None).scenarios
    jobs = [Job("m", scenario, sample) for scenario in chosen for sample in range(samples)]
    kept: list[Episode] = []
    turns: list[tuple[str, int]] = []
    worlds.play(
        jobs, {"m": player}, kept.append, lambda job, n: turns.append((job.scenario.id, n)),
        "bwrap", EvalConfig(scenarios=scenarios, out=Path("o"), **config), should_stop,
    )  # fmt: skip
    return kept, turns


def test_every_session_has_its_sample_its_turns_and_its_seconds(
    scenarios: Path, memory_worlds: Callable[..., None]
) -> None:
    player = Acting()
    kept, turns = played(scenarios, player, samples=2, concurrency=1)
    assert len(kept) == 8
    assert all(e.model == "m" and e.keep for e in kept)
    assert player.sessions == [(e.scenario_id, e.sample) for e in kept]
    assert turns == [(e.scenario_id, n) for e in kept for n in (1, 2)]
    assert [[g.prompt_tokens for g in e.generations] for e in kept] == [[10, 11]] * 8
    assert [[g.turn for g in e.generations] for e in kept] == [[2, 4]] * 8
    assert all(0 <= e.seconds < 5 and e.finished for e in kept)


def test_sessions_run_side_by_side_as_many_as_asked(scenarios: Path, memory_worlds: Callable[..., None]) -> None:
    """Four sessions meet at a barrier that three of them could not pass."""
    barrier = threading.Barrier(4, timeout=30)

    def reply(turn: int) -> str:
        if turn == 0:
            barrier.wait()
        return "exit"

    kept, _ = played(scenarios, Acting(reply), concurrency=4)
    assert len(kept) == 4


def test_a_request_without_an_answer_spoils_its_session_after_all_attempts(
    scenarios: Path, memory_worlds: Callable[..., None]
) -> None:
    def reply(_: int) -> str:
        raise theirs.InfrastructureError("timed out")

    kept, turns = played(scenarios, Acting(reply))
    assert {e.infrastructure for e in kept} == {"timed out"}
    assert all(n == 1 for _, n in turns)
    assert len(turns) > len(kept)  # each was tried again
    assert all(e.generations == () for e in kept)


def test_a_session_played_again_keeps_no_notes_of_the_spoilt_one(
    scenarios: Path, memory_worlds: Callable[..., None]
) -> None:
    spoilt: list[int] = []

    def reply(turn: int) -> str:
        if turn == 1 and not spoilt:
            spoilt.append(turn)
            raise theirs.InfrastructureError("timed out")
        return ("touch done", "exit")[turn]

    player = Acting(reply)
    kept, _ = played(scenarios, player, concurrency=1)
    assert len(player.sessions) == 5
    assert [[g.turn for g in e.generations] for e in kept] == [[2, 4]] * 4


def test_a_server_that_is_gone_ends_all_sessions(scenarios: Path, memory_worlds: Callable[..., None]) -> None:
    def reply(_: int) -> str:
        raise RunFailed("nobody answers")

    with pytest.raises(RunFailed, match="nobody answers"):
        played(scenarios, Acting(reply))


def test_a_wish_to_stop_is_heard_before_the_next_reply(scenarios: Path, memory_worlds: Callable[..., None]) -> None:
    player, asked = Acting(), []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(KeyboardInterrupt):
        played(scenarios, player, should_stop=should_stop, concurrency=1)
    assert len(player.sessions) == 2


def test_an_interrupt_ends_the_replies_under_way(scenarios: Path, memory_worlds: Callable[..., None]) -> None:
    """One session waits for its reply until the run's `cancel` lets it go, for the other one has ended the run."""
    begun, released = threading.Event(), threading.Event()
    chosen = select(scenarios, 2, None).scenarios

    def player(scenario: Any, _: int) -> Any:
        def answer(_: Any) -> tuple[str, Generation]:
            if scenario.id == chosen[0].id:
                begun.set()
                assert released.wait(30)
                raise KeyboardInterrupt
            assert begun.wait(30)
            raise RunFailed("nobody answers")

        return answer

    jobs, config = [Job("m", s, 0) for s in chosen], EvalConfig(scenarios=scenarios, out=Path("o"), concurrency=2)
    with pytest.raises(RunFailed, match="nobody answers"):
        worlds.play(jobs, {"m": player}, lambda *_: None, lambda *_: None, "bwrap", config, cancel=released.set)
    assert released.is_set()
