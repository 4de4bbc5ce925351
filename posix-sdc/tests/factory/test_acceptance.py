"""Whole worlds tell right from wrong: broken constraints, other answers, doing nothing (see `acceptance`)."""

import json

import pytest
from acceptance import apart, main, run, totals, worlds

from tiararodney.posix_sdc.factory.checks import Check
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime

RIGHT = {
    "constraints_out_of_reach": 0,
    "constraints_not_failing": 0,
    "other_answers_refused": 0,
    "doing_nothing_earned": 0,
}


@pytest.fixture
def _bwrap():
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))


@pytest.mark.bwrap
@pytest.mark.usefixtures("_bwrap")
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_worlds_pass_in_every_way_that_they_are_tried(split, tmp_path):
    found = run(list(worlds(3, 5, split)), tmp_path / "log.jsonl", 3)
    assert (found["worlds"], found["gate_passed"]) == (3, 3)
    assert found | RIGHT == found, (tmp_path / "log.jsonl").read_text()


@pytest.mark.bwrap
@pytest.mark.sweep
@pytest.mark.usefixtures("_bwrap")
@pytest.mark.parametrize("split", ["train", "holdout"])
def test_many_worlds_pass_in_every_way_that_they_are_tried(split, tmp_path):
    found = run(list(worlds(200, 6, split)), tmp_path / "log.jsonl", 4)
    assert found["gate_passed"] == 200
    assert found | RIGHT == found, (tmp_path / "log.jsonl").read_text()


@pytest.mark.bwrap
@pytest.mark.usefixtures("_bwrap")
def test_a_constraint_whose_check_is_gone_is_found(tmp_path, monkeypatch):
    """The world is judged by a checker that passes on everything."""
    monkeypatch.setattr("acceptance.script", lambda *_: "exit 0\n")
    found = run(list(worlds(1, 5)), tmp_path / "log.jsonl", 1)
    assert found["gate_passed"] == 0
    assert found["constraints_not_failing"] == found["constraints"] > 0
    assert found["doing_nothing_earned"] > 0


def test_constraints_that_meet_are_broken_apart():
    a, b, inside, wide = (
        Check("a", "[ -f a.txt ]", ("rm a.txt",)),
        Check("b", "[ -f d/b.txt ]", ("rm d/b.txt",)),
        Check("c", "[ -d d ]", ("rm -r d",)),
        Check("d", "[ -f e.txt ]", ("rm *",)),
    )
    assert apart([a, b, inside, wide]) == [[0, 1], [2], [3]]


def test_a_log_is_gone_on_with_and_totals_are_its_sums(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    line = {"gate": "", "constraints": 4, "unbroken": [], "out_of_reach": [], "others": 2, "refused": [], "nothing": []}
    log.write_text("".join(json.dumps(line | {"id": w.scenario.id}) + "\n" for w in worlds(2, 0)))
    assert main(["--n", "2", "--log", str(log)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == totals([line, line])
    assert found["constraints"] == 8
