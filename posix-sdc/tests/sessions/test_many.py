"""Many sessions side by side, with scripted operators and worlds that live in memory."""

import threading

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.many import play, run_batch
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds import protocol

SCENARIO = next(s for s in generate(20, 0) if s.terminal == "exit")
SEVERAL = [s for s in generate(30, 1) if s.terminal == "exit"][:7]


# ---------------------------------------------------------------------------------------------- each on its own way


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


@pytest.mark.parametrize("form", ["own way", "lock-step"])
def test_one_bad_bundle_costs_one_bundle(worlds, form):
    made = worlds.plan
    worlds.plan = lambda: made() if len(worlds) else worlds.append(None) or {}["verbs"]
    if form == "own way":
        out = []
        play(SEVERAL, lambda *_: ScriptedOperator(["touch x"]), out.append, width=1)
    else:
        out = list(run_batch(SEVERAL, Counting(), width=1))
    worlds.remove(None)
    assert sorted(t.outcome for t in out) == ["bad_bundle", *["success"] * (len(SEVERAL) - 1)]


def test_an_error_of_the_operator_ends_the_run(worlds):
    class Broken:
        def reply(self, messages):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(SEVERAL, Broken(), lambda _: None, width=2)
    assert not protocol._aborted.is_set()  # the process can open worlds again


# -------------------------------------------------------------------------------------------------------- lock-step


class Counting:
    """A batch operator that ends session n after n commands."""

    name = "counting"

    def __init__(self):
        self.sizes = []

    def reply_batch(self, conversations):
        self.sizes.append(len(conversations))
        return [self._next(c) for c in conversations]

    def _next(self, messages):
        own = [m["content"] for m in messages if m["role"] == "assistant"]
        return ["touch x", "echo 1", "exit"][len(own)]


def test_a_batch_asks_once_a_round_for_every_live_session(worlds):
    operator = Counting()
    scenarios = [s for s in generate(30, 1) if s.terminal == "exit"][:7]
    out = list(run_batch(scenarios, operator, width=4))
    assert operator.sizes == [4, 4, 4, 3, 3, 3]
    assert {t.scenario_id for t in out} == {s.id for s in scenarios}
    assert {t.outcome for t in out} == {"success"}


def test_a_batch_gives_the_sessions_that_single_play_gives(worlds):
    single = run_session(SCENARIO, ScriptedOperator(["touch x", "echo 1"], name="counting"))
    (batched,) = run_batch([SCENARIO], Counting())
    assert batched == single


def test_a_batch_retries_what_broke_and_reports_what_stays_broken(worlds):
    worlds.plan = lambda: worlds.world(fail_at=1 if len(worlds) == 0 else -1)
    assert [t.outcome for t in run_batch([SCENARIO], Counting())] == ["success"]
    assert len(worlds) == 2
    worlds.plan = lambda: worlds.world(fail_at=1)
    assert [t.outcome for t in run_batch([SCENARIO], Counting())] == ["infrastructure"]


def test_a_batch_that_is_left_closes_its_worlds(worlds):
    scenarios = [s for s in generate(30, 1) if s.terminal == "exit"][:4]

    class Uneven(Counting):
        def reply_batch(self, conversations):
            return ["exit", *["echo 1"] * (len(conversations) - 1)]

    batch = run_batch(scenarios, Uneven())
    next(batch)
    assert [w.closed for w in worlds].count(False) == 3
    batch.close()
    assert all(w.closed for w in worlds)


def test_no_scenarios_give_no_sessions():
    assert list(run_batch([], Counting())) == []
