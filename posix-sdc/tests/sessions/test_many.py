"""Many sessions side by side, with scripted operators and worlds that live in memory."""

import threading

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.sessions.many import play
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds import protocol

SCENARIO = next(s for s in generate(20, 0) if s.terminal == "exit")
SEVERAL = [s for s in generate(30, 1) if s.terminal == "exit"][:7]


def test_no_session_waits_for_the_slowest_reply(worlds):
    """The slow session's reply comes only once all the others have ended."""
    finished, others = [], threading.Event()

    class Uneven:
        name = "uneven"

        def __init__(self, scenario):
            self.slow, self.left = scenario.id == SEVERAL[0].id, ["touch x", "exit"]

        def reply(self, messages):
            assert not self.slow or others.wait(20)
            return self.left.pop(0)

    def on_episode(session):
        finished.append(session.scenario_id)
        if len(finished) == len(SEVERAL) - 1:
            others.set()

    play(SEVERAL, lambda scenario, sample: Uneven(scenario), on_episode, width=2)
    assert finished[-1] == SEVERAL[0].id
    assert set(finished) == {s.id for s in SEVERAL}


def test_a_shared_operator_may_block_and_batch_inside(worlds):
    """All sessions are inside `reply` at once: a barrier of their number lets them through."""
    barrier = threading.Barrier(len(SEVERAL), timeout=20)

    class Shared:
        name = "shared"

        def reply(self, messages):
            barrier.wait()
            return ["touch x", "exit"][sum(m["role"] == "assistant" for m in messages)]

    out = []
    play(SEVERAL, Shared(), out.append, width=len(SEVERAL))
    assert {t.outcome for t in out} == {"success"}


def test_samples_of_one_scenario_are_sessions_of_their_own(worlds):
    out = []
    jobs = [(SCENARIO, k) for k in range(5)]
    play(jobs, lambda scenario, sample: ScriptedOperator(["touch x", f"echo {sample}"]), out.append, width=3)
    assert sorted(t.meta["sample"] for t in out) == [0, 1, 2, 3, 4]
    assert len({t.id for t in out}) == len(worlds) == 5
    assert all(f"{t.meta['sample']}\n$ " in [x.content for x in t.turns] for t in out)


def test_one_bad_bundle_costs_one_bundle(worlds):
    made = worlds.plan
    worlds.plan = lambda: made() if len(worlds) else worlds.append(None) or {}["verbs"]
    out = []
    play(SEVERAL, lambda *_: ScriptedOperator(["touch x"]), out.append, width=1)
    worlds.remove(None)
    assert sorted(t.outcome for t in out) == ["bad_bundle", *["success"] * (len(SEVERAL) - 1)]


def test_an_error_of_the_operator_ends_the_run(worlds):
    class Broken:
        def reply(self, messages):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(SEVERAL, Broken(), lambda _: None, width=2)
    assert not protocol._aborted.is_set()  # the process can open worlds again


def test_a_fault_of_ours_is_retried_then_reported(worlds):
    out = []
    worlds.plan = lambda: worlds.world(fail_at=1 if len(worlds) == 0 else -1)
    play([SCENARIO], lambda *_: ScriptedOperator(["touch x", "echo 1"]), out.append)
    worlds.plan = lambda: worlds.world(fail_at=1)
    play([SCENARIO], lambda *_: ScriptedOperator(["touch x", "echo 1"]), out.append)
    assert [t.outcome for t in out] == ["success", "infrastructure"]


def test_no_scenarios_give_no_sessions():
    play([], ScriptedOperator(["exit"]), pytest.fail)
