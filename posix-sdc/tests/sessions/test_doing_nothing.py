"""Who does nothing earns nothing, in any world: leaving at once, giving up at once, words instead of commands."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime

OPERATORS = {
    "exit at once": ["exit"],
    "panic at once": ["panic"],
    "panic with every word": ["panic the file is missing, denied, forbidden and wanted at once, and the program fails"],
    "prose": ["I have looked at everything and the work is done.", "exit"],
    "prose, then panic": ["I cannot do this, since I have no access to a terminal.", "panic it cannot be done"],
}


@pytest.fixture(scope="module", autouse=True)
def _bwrap():
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))


def played(n, **more):
    """Play each operator in n worlds, half of which end in panic; return outcomes by operator and what was verified."""
    worlds = list(generate(n * 9, 6, **more))
    blocked = [s for s in worlds if s.terminal == "panic"][: n // 2]
    chosen = [*blocked, *[s for s in worlds if s.terminal == "exit"][: n - len(blocked)]]
    assert len(blocked) >= n // 3
    jobs = [(name, s) for name in OPERATORS for s in chosen]
    with ThreadPoolExecutor(4) as threads:
        records = list(threads.map(lambda job: run_session(job[1], ScriptedOperator(OPERATORS[job[0]]), "bwrap"), jobs))
    outcomes = {
        name: Counter(t.outcome for (who, _), t in zip(jobs, records, strict=True) if who == name) for name in OPERATORS
    }
    assert not any(counts["infrastructure"] + counts["bad_bundle"] for counts in outcomes.values()), outcomes
    return outcomes, [
        (name, t.id, t.outcome) for (name, _), t in zip(jobs, records, strict=True) if t.verified or t.keep
    ]


@pytest.mark.bwrap
@pytest.mark.parametrize("course", ["full", "first"])
def test_doing_nothing_is_neither_verified_nor_a_success(course):
    outcomes, verified = played(10, course=course)
    assert verified == []
    assert outcomes["exit at once"]["unverified"] >= 5
    assert outcomes["panic at once"]["unverified"] >= 3


@pytest.mark.bwrap
@pytest.mark.sweep
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_doing_nothing_earns_nothing_in_many_worlds(split):
    assert played(100, split=split)[1] == []
