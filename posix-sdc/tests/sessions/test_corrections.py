"""A session that went wrong is continued from the state that it is in, and only the expert's turns are trained."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.taxonomy import ARCHETYPES
from tiararodney.posix_sdc.records.axes import family_of
from tiararodney.posix_sdc.sessions import stocktaking
from tiararodney.posix_sdc.sessions.corrections import Astray, correct, find_cut
from tiararodney.posix_sdc.sessions.loop import run_session, turn_limit
from tiararodney.posix_sdc.sessions.operators import habits
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.sessions.provenance import unshown
from tiararodney.posix_sdc.worlds.protocol import Limits, NoRuntime, resolve_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.records.schema import Scenario, Trajectory

pytestmark = pytest.mark.bwrap
PROSE = "I will now look at the files of this task."


@pytest.fixture(scope="module", autouse=True)
def _runtime() -> None:
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))


def misnamed(right: Sequence[str]) -> list[str]:
    """Write every result under a wrong name, or get a wrong one."""
    return [habits.misnamed(c)[0] or habits.nearly(c)[0] or c for c in right]


# How a learner errs who did some right things before: commands, given the right ones and how many of them it does.
KINDS: dict[str, tuple[Callable[[Sequence[str], int], Sequence[str]], Astray]] = {
    "prose": (lambda right, n: [*right[:n], PROSE, *right[n:]], Astray.PROSE),
    "panic": (lambda right, n: [*right[:n], "panic this cannot be done"], Astray.ENDED),
    "exit": (lambda right, n: [*right[:n], "exit"], Astray.ENDED),
    "name": (lambda right, n: misnamed(right), Astray.ENDED),
    "stuck": (lambda right, n: [*right[:n], *["ls -a /"] * 99], Astray.STUCK),
    "away": (lambda right, n: [*right[:n], "cd /usr", "ls", "exit"], Astray.ENDED),
}


def learn(scenario: Scenario, kind: str) -> Trajectory:
    """Play a learner's session that errs in a way, after a number of right commands that a seed decides."""
    right = [
        t.content for t in played(scenario, ReferenceOperator(scenario, 3)).turns if t.role == "assistant" and t.train
    ]
    n = random.Random(f"{scenario.id} {kind}").randrange(len(right))
    return played(scenario, ScriptedOperator(list(KINDS[kind][0](right, n))))


def played(scenario: Scenario, operator: ScriptedOperator | ReferenceOperator) -> Trajectory:
    return run_session(scenario, operator, "bwrap")


def messages(session: Trajectory) -> list[dict[str, str]]:
    return [{"role": t.role, "content": t.content} for t in session.turns]


def is_corrected(scenario: Scenario, kind: str) -> None:
    """Let a learner err, and see that the correction is what it has to be; a learner who happens to succeed is none."""
    wrong = learn(scenario, kind)
    if wrong.keep:
        return
    found = correct(scenario, messages(wrong), "bwrap", name="corrected")
    what = (scenario.id, kind, found.outcome, found.meta, [t.content for t in wrong.turns if t.role == "assistant"])
    assert found.keep, what
    cut = found.meta["cut"]
    replies = [t for t in found.turns if t.role == "assistant"]
    assert [t.train for t in replies] == [False] * cut + [True] * (len(replies) - cut), what
    assert [t.content for t in replies[:cut]] == [t.content for t in wrong.turns if t.role == "assistant"][:cut], what
    assert unshown(found) == [], what


def one_of_each_family() -> list[tuple[str, str, str]]:
    """Return an archetype of each family with its split, each with a kind of error in turn."""
    families = {family_of(a.name): a for a in ARCHETYPES}
    kinds = list(KINDS)
    return [(a.name, a.split, kinds[i % len(kinds)]) for i, a in enumerate(families.values())]


@pytest.mark.parametrize(("archetype", "split", "kind"), one_of_each_family())
def test_an_error_in_a_family_is_corrected(archetype: str, split: str, kind: str) -> None:
    [scenario] = generate(1, 11, split, [archetype])
    is_corrected(scenario, kind)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("archetype", "split"), [(a.name, a.split) for a in ARCHETYPES])
def test_every_error_in_every_archetype_is_corrected(archetype: str, split: str, kind: str) -> None:
    for scenario in generate(1, 12, split, [archetype]):
        is_corrected(scenario, kind)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Return a plain world of one piece of work."""
    return next(s for s in generate(40, 3, course="first") if s.archetype == "text_sort" and s.terminal == "exit")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_is_cut_before_what_cannot_be_made_good(scenario: Scenario, kind: str) -> None:
    wrong = learn(scenario, kind)
    cut = find_cut(scenario, messages(wrong), "bwrap", Limits())
    commands = [t.content for t in wrong.turns if t.role == "assistant"]
    assert cut.why == KINDS[kind][1]
    assert commands[cut.at] == {"prose": PROSE, "stuck": "ls -a /"}.get(kind, commands[-1])


def test_half_of_the_turns_are_left_to_the_expert(scenario: Scenario) -> None:
    wandering = [f"echo {n}" for n in range(turn_limit(scenario))]
    wrong = played(scenario, ScriptedOperator(wandering))
    cut = find_cut(scenario, messages(wrong), "bwrap", Limits())
    assert (cut.at, cut.why) == (turn_limit(scenario) // 2, Astray.LONG)
    assert correct(scenario, messages(wrong), "bwrap").keep


def test_what_cannot_be_repeated_is_cut_off(scenario: Scenario) -> None:
    """A session whose world showed something else is taken over before that."""
    wrong = played(scenario, ScriptedOperator(["ls", "ls -a", "exit"]))
    shown = messages(wrong)
    shown[5]["content"] = "another time of day\n$ "
    assert find_cut(scenario, shown, "bwrap", Limits()).why == Astray.DIFFERS
    found = correct(scenario, shown, "bwrap")
    assert (found.keep, found.meta["cut"], found.meta["astray"]) == (True, 1, "differs")


def test_work_that_is_done_is_verified_and_not_done_again(scenario: Scenario) -> None:
    right = [t.content for t in played(scenario, ReferenceOperator(scenario, 3)).turns if t.role == "assistant"]
    [work] = scenario.directives[0].extra["works"]
    last = max(i for i, c in enumerate(right) if c in work["solution"])
    wrong = played(scenario, ScriptedOperator([*right[: last + 1], "panic it is done"]))
    found = correct(scenario, messages(wrong), "bwrap")
    more = [t.content for t in found.turns if t.role == "assistant" and t.train]
    assert found.keep
    assert not set(more) & set(work["solution"])
    assert more[-1] == "exit"
    assert any(work["outputs"][0] in c for c in more)


def test_work_that_is_done_out_of_turn_is_not_done_again() -> None:
    """Of several pieces the one that went wrong is done, those behind it are looked at."""

    def fits(scenario: Scenario) -> bool:
        first, *others = scenario.directives[0].extra["works"]
        ways = (first["solution"], *first["ways"])
        return bool(others) and not others[0]["chained"] and all(habits.misnamed(way[0])[0] for way in ways)

    scenario = next(s for s in generate(200, 21) if s.terminal == "exit" and len(s.directives) == 1 and fits(s))
    first, *others = scenario.directives[0].extra["works"]
    right = [t.content for t in played(scenario, ReferenceOperator(scenario, 3)).turns if t.role == "assistant"]
    ways = [c for way in (first["solution"], *first["ways"]) for c in way]
    lapse = {c: habits.misnamed(c)[0] for c in right if c in ways}
    found = correct(scenario, messages(played(scenario, ScriptedOperator([lapse.get(c, c) for c in right]))), "bwrap")
    more = [t.content for t in found.turns if t.role == "assistant" and t.train]
    assert found.keep, found.meta
    assert set(ways) & set(more)
    assert not {c for work in others for way in (work["solution"], *work["ways"]) for c in way} & set(more)


def test_what_was_lost_is_not_continued(scenario: Scenario) -> None:
    """An input that is gone cannot be brought back: the session is taken over before it went."""
    right = [t.content for t in played(scenario, ReferenceOperator(scenario, 3)).turns if t.role == "assistant"]
    [work] = scenario.directives[0].extra["works"]
    lost = f"rm {work['inputs'][0]}"
    wrong = played(scenario, ScriptedOperator([right[0], lost, "ls", "exit"]))
    found = correct(scenario, messages(wrong), "bwrap")
    assert found.keep
    assert lost not in [t.content for t in found.turns]


def test_a_file_under_a_wrong_name_is_removed_after_a_look(scenario: Scenario) -> None:
    right = [t.content for t in played(scenario, ReferenceOperator(scenario, 3)).turns if t.role == "assistant"]
    wrong = played(scenario, ScriptedOperator([*right[:-1], "echo x > stray.txt", "panic"]))
    found = correct(scenario, messages(wrong), "bwrap")
    more = [t.content for t in found.turns if t.role == "assistant" and t.train]
    assert found.keep
    assert more.index("rm stray.txt") > more.index("ls")


def test_a_bundle_without_a_way_is_not_corrected(scenario: Scenario) -> None:
    works = [{**w, "solution": ["true"], "ways": []} for w in scenario.directives[0].extra["works"]]
    directive = replace(scenario.directives[0], extra={**scenario.directives[0].extra, "works": works})
    spoilt = replace(scenario, directives=(directive,))
    found = correct(spoilt, messages(played(scenario, ScriptedOperator(["ls", "exit"]))), "bwrap")
    assert (found.keep, found.outcome) == (False, "unverified")
    assert found.meta["reason"] == "the operator found no way"


def test_a_fault_of_ours_is_recorded_as_such(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise InfrastructureError("the engine went away")

    monkeypatch.setattr(stocktaking, "Session", broken)
    found = correct(scenario, [], "bwrap")
    assert (found.keep, found.outcome, found.meta["reason"]) == (False, "infrastructure", "the engine went away")
