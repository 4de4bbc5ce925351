"""What a directive forbids is checked: in every world that says so, and in the world itself."""

import re

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.compose import _BANS, _NOTHING_ELSE
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime

BANS = re.compile("|".join(re.escape(ban).replace(r"\{\}", r"(\S+)") for ban in (*_BANS, *_NOTHING_ELSE)))
COURSES = ("full", "first")


def banned(scenario):
    """Return what a world's directives forbid: names, or nothing for whatever they do not ask for."""
    text = "\n".join(d.text for d in scenario.directives)
    return [next((name for name in found.groups() if name), "") for found in BANS.finditer(text)]


def named(ban):
    return f"there is no {ban}" if ban else "nothing else was made"


@pytest.fixture(scope="module")
def worlds():
    return {course: [s for s in generate(1500, 8, course=course) if banned(s)] for course in COURSES}


@pytest.mark.parametrize("course", COURSES)
def test_every_ban_has_its_check(worlds, course):
    assert len(worlds[course]) >= 60
    for s in worlds[course]:
        for ban in banned(s):
            assert f"- {named(ban)}'" in s.checker.script, (s.id, ban)


def test_there_are_bans_on_a_name_and_on_everything_else(worlds):
    assert {bool(ban) for s in worlds["first"] for ban in banned(s)} == {True, False}


@pytest.mark.bwrap
@pytest.mark.parametrize("course", COURSES)
def test_a_broken_ban_fails_by_its_name(worlds, course):
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    solvable = [s for s in worlds[course] if s.terminal == "exit"]
    some = [*solvable[:4], *[s for s in solvable if "" in banned(s)][:3]]
    for s in some:
        for ban in banned(s):
            breaks = f"echo x > {ban or 'one-more-file'}"
            played = run_session(s, ScriptedOperator([*s.reference_solution, breaks, "exit"]), "bwrap")
            assert (played.outcome, played.meta["checks"][named(ban)]) == ("unverified", False), (s.id, played.meta)
            kept = run_session(s, ScriptedOperator([*s.reference_solution, "exit"]), "bwrap")
            assert kept.meta["checks"][named(ban)], (s.id, kept.meta)
