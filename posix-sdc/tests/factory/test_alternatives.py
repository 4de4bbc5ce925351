"""A right answer passes, whoever gives it and whatever utility it takes."""

import pytest
from alternatives import ALTERNATIVES, ANY_ORDER, OWN, answers
from plain_folder import SEEDS, author, failed

from tiararodney.posix_sdc.factory.archetypes import AUTHORS
from tiararodney.posix_sdc.factory.checks import script
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, open_world, resolve_runtime


def test_every_archetype_has_four_other_answers():
    assert set(ALTERNATIVES) | OWN == set(AUTHORS)
    assert min(len(templates) + len(ANY_ORDER.get(name, ())) for name, (_, templates) in ALTERNATIVES.items()) >= 4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [n for n in AUTHORS if not n.startswith("process_")])
def test_other_right_answers_pass(name, seed, tmp_path):
    work = author(name, seed)
    for i, answer in enumerate(answers(name, work.solution)):
        assert failed(work, (answer,), tmp_path / str(i)) == [], answer


PROCESSES = [n for n in AUTHORS if n.startswith("process_")]


@pytest.fixture
def judge(scenario):
    """Return what plays commands in a world that a piece of work starts with, and judges it."""
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))

    def played(work, *commands):
        files = [{k: v for k, v in f.__dict__.items() if k != "extra"} for f in work.fixtures]
        here = [f | {"path": f["path"] if f["path"].startswith("/") else f"/work/{f['path']}"} for f in files]
        bundle = scenario(fixtures=here, checker={"script": script(work.checks), "probe": work.probe})
        with open_world(bundle, "bwrap") as world:
            for command in commands:
                world.run(command)
            return world.check()

    return played


@pytest.mark.bwrap
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PROCESSES)
def test_other_right_answers_to_work_on_processes_pass(name, seed, judge):
    work = author(name, seed)
    for answer in answers(name, work.solution):
        verdict = judge(work, answer)
        assert verdict.passed, (answer, verdict.detail)


@pytest.mark.bwrap
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PROCESSES)
def test_breaking_any_one_constraint_on_processes_fails_its_check(name, seed, judge):
    work = author(name, seed)
    for i, check in enumerate(work.checks, 1):
        verdict = judge(work, *work.solution, *check.broken_by)
        assert f"not ok {i} - {check.says}" in verdict.detail, (check, verdict.detail)
