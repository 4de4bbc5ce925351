"""The import of InterCode-ALFA: what becomes of tasks, and what their scenarios take for right."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace

import pytest
from alfa_package import LEFT_OUT, TASKS, write_package

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.errors import SchemaError, UsageError
from tiararodney.posix_sdc.factory.intercode_alfa import outcome as outcomes
from tiararodney.posix_sdc.factory.intercode_alfa import package
from tiararodney.posix_sdc.factory.intercode_alfa.outcome import ANSWER, any_order
from tiararodney.posix_sdc.factory.intercode_alfa.run import Import, import_tasks
from tiararodney.posix_sdc.records.schema import load_scenarios
from tiararodney.posix_sdc.records.store import write_record
from tiararodney.posix_sdc.sessions.gate import judge
from tiararodney.posix_sdc.sessions.harbor import task_files
from tiararodney.posix_sdc.sessions.loop import opening, run_session
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator, ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import _unusable


@pytest.fixture
def package_folder(tmp_path, monkeypatch):
    """Return a folder that is searched first for packages, with a stand-in in it."""
    folder = tmp_path / "site"
    write_package(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "icalfa", raising=False)
    importlib.invalidate_caches()
    return folder


@pytest.fixture
def bwrap():
    if (reason := _unusable("bwrap")) is not None:
        pytest.skip(reason)


def made(runtime, form="plain", only=None):
    """Import the installed package; return the scenarios by the index of their task, and what was left out."""
    found = package.read_package()
    if only is not None:
        found = replace(found, tasks=tuple(t for t in found.tasks if t.index in only))
    scenarios = {}
    left_out = import_tasks(
        Import(found, form, "holdout", [runtime], 4), lambda s: scenarios.setdefault(int(s.id[-3:]), s)
    )
    return scenarios, left_out


def outcome(scenario, runtime, *replies):
    session = run_session(scenario, ScriptedOperator([*replies, "exit"]), runtime)
    return session.outcome, [name for name, passed in session.meta["checks"].items() if not passed]


@pytest.mark.parametrize("form", ["plain", "citizen"])
def test_command_line_imports_tasks_and_names_those_left_out(
    package_folder, runtime, tmp_path, monkeypatch, capsys, form
):
    """Every task is a scenario whose gold command succeeds, or is left out with a reason, printed and counted."""
    monkeypatch.setattr(outcomes, "SECONDS", 4)
    argv = ["import", "intercode-alfa", "--form", form, "--runtime", runtime, "--jobs", "4"]
    assert main([*argv, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    scenarios = load_scenarios(tmp_path / "a")
    assert [int(s.id[-3:]) for s in scenarios] == [i for i in range(len(TASKS)) if i not in LEFT_OUT]
    for index, word in LEFT_OUT.items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"intercode-alfa-{form}-{index:03d}: ")]
        assert word in line, line
    assert "left out 1: it needs a network" in printed
    assert f"8 of {len(TASKS)} tasks in {tmp_path / 'a'} ({form}, {runtime}" in printed
    assert [judge(s, runtime) for s in scenarios] == [""] * 8
    assert {s.split for s in scenarios} == {"holdout"}
    assert all("difference" in s.checker.extra["judged_by"] for s in scenarios)


def test_same_package_gives_the_same_bytes(package_folder, bwrap):
    first, again = (made("bwrap", only={0, 7})[0] for _ in range(2))
    assert sorted(first) == [0, 7]
    assert first == again


def test_set_up_script_becomes_fixtures_of_any_bytes(package_folder, bwrap, tmp_path):
    """Contents, modes, links and dates are those that the script made, archives included."""
    scenarios, _ = made("bwrap", only={0})
    write_record(tmp_path / "s.json", scenarios[0])
    (scenario,) = load_scenarios(tmp_path / "s.json")
    assert scenario == scenarios[0]
    found = {f.path: f for f in scenario.fixtures}
    assert found["/shop/back/old.txt"].mode == "640"
    assert found["/shop/back/old.txt"].mtime == 1675209599
    assert found["/shop/link"].target == "list.txt"
    assert found["/shop/back/two words.txt"].content == "odd\n"
    assert found["/shop/list.gz"].content.encode("utf-8", "surrogateescape").startswith(b"\x1f\x8b")
    assert found["/setup_nl2b_fs_1.sh"].content.startswith("#!/bin/bash")


def test_plain_form_judges_files_and_output_of_one_command(package_folder, runtime):
    scenarios, _ = made(runtime, only={0, 1, 2, 3})
    copy, count, walk, both = (scenarios[i] for i in range(4))
    assert outcome(copy, runtime, "cat /shop/list.txt > /shop/copy.txt") == ("success", [])
    assert outcome(copy, runtime, "touch /shop/copy.txt")[0] == "unverified"
    assert "the same files" in outcome(copy, runtime, "cp /shop/list.txt /shop/copy.txt; touch /shop/more")[1][0]
    assert outcome(copy, runtime, "cp -v /shop/list.txt /shop/copy.txt")[1] == [
        "the command printed what the gold command prints"
    ]
    assert outcome(count, runtime, "grep -c '' /shop/list.txt") == ("success", [])
    assert outcome(count, runtime, "echo 4")[0] == "unverified"
    assert outcome(count, runtime, "rm /shop/list.txt; echo 3")[0] == "unverified"
    assert outcome(walk, runtime, "grep -rl plum /shop | sort -r") == ("success", [])
    assert outcome(walk, runtime, "grep -rl plum /shop | head -1")[0] == "unverified"
    # Its commands are bash's, as in the package.
    assert outcome(both, runtime, "comm -12 <(sort -u /shop/list.txt) <(sort -u /shop/back/old.txt)")[0] == "success"


@pytest.mark.parametrize("reply", ["exit", "panic it cannot be done", "Sure! I will count the lines.", ""])
def test_plain_form_gives_nothing_for_doing_nothing(package_folder, bwrap, reply):
    scenarios, _ = made("bwrap", only={0, 1, 6})
    assert [outcome(s, "bwrap", reply)[0] for s in scenarios.values()].count("success") == 0


def test_plain_form_shows_the_query_first(package_folder, bwrap):
    """One reply is asked for, and the session is over; the operator that knows the bundle gives the gold command."""
    scenarios, _ = made("bwrap", only={1})
    system, user = opening(scenarios[1])
    assert user.content == "count the lines of the list\n$ "
    assert "The shell is bash" in system.content
    played = run_session(scenarios[1], ReferenceOperator(scenarios[1]), "bwrap")
    assert (played.outcome, played.steps, played.turns[2].content) == (
        "success",
        1,
        TASKS["count the lines of the list"],
    )
    assert played.turns[3].content == "3\n$ "


def test_citizen_form_hands_the_query_out_by_a_provider(package_folder, runtime):
    scenarios, _ = made(runtime, "citizen", only={0, 2})
    copy, walk = scenarios[0], scenarios[2]
    assert copy.directives[0].text == "copy the list to /shop/copy.txt"
    assert walk.directives[0].text.endswith(f"Write what that prints to {ANSWER}")
    assert copy.announcement.text.count(copy.provider.name) >= 1
    assert outcome(copy, runtime, "cp /shop/list.txt /shop/copy.txt")[0] == "success"
    assert outcome(walk, runtime, f"grep -rl plum /shop | sort > {ANSWER}")[0] == "success"
    assert outcome(walk, runtime, "grep -rl plum /shop")[0] == "unverified"
    assert outcome(walk, runtime, f"echo none > {ANSWER}")[0] == "unverified"


def test_citizen_form_leaves_out_names_that_nothing_tells(tmp_path, monkeypatch, bwrap):
    """What a session cannot find out it could only guess."""
    write_package(tmp_path, {"save the sorted list": "sort /shop/list.txt > /shop/sorted_by_whom.txt"})
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert len(made("bwrap")[0]) == 1  # as in the package
    scenarios, (left,) = made("bwrap", "citizen")
    assert not scenarios
    assert left.reason == "its gold command uses a name that nothing tells"
    assert "sorted_by_whom" in left.detail


def test_gold_commands_that_sort_keep_their_order():
    assert any_order("find /shop -type f")
    assert any_order("grep -rn plum /shop")
    assert not any_order("find /shop -type f | sort")
    assert not any_order("cat /shop/list.txt")


def test_plain_form_is_no_harbor_task(package_folder, bwrap):
    scenarios, _ = made("bwrap", only={1})
    with pytest.raises(SchemaError, match=r"checker\.command"):
        task_files(scenarios[1])


def test_missing_or_broken_package_is_refused_in_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(package, "NAME", "icalfa_that_nobody_has")
    assert main(["import", "intercode-alfa", "--out", str(tmp_path / "out")]) == 2
    assert "pip install --no-deps icalfa_that_nobody_has" in capsys.readouterr().err
    monkeypatch.undo()
    write_package(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    file = tmp_path / "site/icalfa/assets/datasets/nl2bash_fs_1.json"
    for broken in ("{", "{}", json.dumps([{"query": "x"}])):
        file.write_text(broken)
        with pytest.raises(UsageError, match=r"nl2bash_fs_1\.json"):
            package.read_package()


def test_folder_of_other_scenarios_is_refused(package_folder, bwrap, tmp_path, capsys):
    (tmp_path / "train-0-00000-x.json").write_text("{}")
    assert main(["import", "intercode-alfa", "--runtime", "bwrap", "--out", str(tmp_path)]) == 2
    assert "train-0-00000-x.json" in capsys.readouterr().err


@pytest.mark.slow
def test_real_package_gives_scenarios_that_pass_their_gate(bwrap):
    """Of every 25th of the 300 tasks, in both forms, gold succeeds in each that is imported."""
    try:
        found = package.read_package()
    except UsageError as error:
        pytest.skip(str(error))
    assert len(found.tasks) == 300
    few = set(range(0, 300, 25))
    for form in ("plain", "citizen"):
        scenarios, left_out = made("bwrap", form, only=few)
        assert len(scenarios) + len(left_out) == len(few)
        assert len(scenarios) >= 8
        assert all(judge(s, "bwrap") == "" for s in scenarios.values())
