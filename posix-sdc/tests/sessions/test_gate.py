"""The gate lets through what its own checker judges rightly in a real world, and says why it stops the rest."""

from dataclasses import replace

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.taxonomy import ARCHETYPES, BLOCKS, misplaced
from tiararodney.posix_sdc.records.axes import block_of
from tiararodney.posix_sdc.records.schema import Checker, Fixture
from tiararodney.posix_sdc.sessions.gate import judge
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime

pytestmark = pytest.mark.bwrap


@pytest.fixture(scope="module", autouse=True)
def _bwrap():
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def solvable():
    return next(s for s in generate(30, 0, course="first") if s.terminal == "exit" and len(s.directives) == 1)


@pytest.mark.parametrize("archetype", ARCHETYPES, ids=lambda a: a.name)
def test_every_archetype_passes(archetype):
    scenario = next(s for s in generate(20, 4, archetype.split, [archetype.name], "first") if s.terminal == "exit")
    assert judge(scenario, "bwrap") == ""


def test_a_training_world_with_something_held_out_is_refused(solvable):
    held = next(generate(1, 0, "holdout", held_out=["providers"]))
    reason = misplaced(replace(held, split="train"))
    assert reason.startswith("its split is 'train', and it holds what is held out from training: provider ")
    assert misplaced(held) == ""


def test_near_misses_of_real_bundles_fail_in_a_real_world(solvable):
    assert len(solvable.checker.extra["near_misses"]) >= 3
    assert judge(solvable, "bwrap", near_misses=True) == ""


@pytest.mark.parametrize("seed", [pytest.param(s, marks=[pytest.mark.sweep] if s >= 8 else []) for s in range(60)])
def test_the_checkers_of_long_scenarios_fail_on_near_misses_and_on_red_herrings(seed):
    scenario = next(iter(generate(1, seed, commands=(3, 10))))
    assert judge(scenario, "bwrap", near_misses=True) == ""


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_passes(block):
    scenario = next(s for s in generate(600, 4) if block_of(s) == block)
    assert scenario.checker.extra["near_misses"]
    assert judge(scenario, "bwrap", near_misses=True) == ""


def test_a_panic_world_that_takes_an_invented_result_is_found():
    scenario = next(s for s in generate(600, 4) if block_of(s) == "missing")
    loose = replace(scenario, checker=replace(scenario.checker, script="exit 0"))
    assert judge(loose, "bwrap") == ""
    assert judge(loose, "bwrap", near_misses=True).startswith("the checker passes on the near miss")


def test_a_checker_that_always_passes_is_found(solvable):
    assert judge(replace(solvable, checker=Checker("exit 0")), "bwrap") == "an immediate exit succeeds"


def test_a_checker_that_always_fails_is_found(solvable):
    assert (
        judge(replace(solvable, checker=Checker("echo no; exit 1")), "bwrap")
        == "the reference solution ends as 'unverified' (no)"
    )


def test_a_solution_that_does_not_solve_is_found(solvable):
    assert judge(replace(solvable, reference_solution=("true",)), "bwrap").startswith(
        "the reference solution ends as 'unverified'"
    )


def test_a_checker_that_passes_on_a_near_miss_is_found(solvable):
    loose = replace(solvable.checker, extra={"near_misses": [list(solvable.reference_solution)]})
    found = judge(replace(solvable, checker=loose), "bwrap", near_misses=True)
    assert found.startswith("the checker passes on the near miss")
    assert judge(replace(solvable, checker=loose), "bwrap") == ""


def test_a_bundle_that_cannot_be_stood_up_is_found(solvable):
    fixtures = (*solvable.fixtures, Fixture("/proc/1/x", "x"))
    assert judge(replace(solvable, fixtures=fixtures), "bwrap").startswith("it cannot be stood up: ")
