"""Sweeps and cycles: what their files and flags say, and whole ones on the tiny base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.episodes import Episode
from tiararodney.sekft.eval.run import claim
from tiararodney.sekft.resident import commands, runs
from tiararodney.sekft.resident.commands import run_line
from tiararodney.sekft.resident.cycle import choose, failed, preferences, split_flags, trajectory
from tiararodney.sekft.resident.runs import flags
from tiararodney.sekft.resident.sweep import Sweep, leaderboard, read_sweep, table, write_leaderboard

if TYPE_CHECKING:
    from tiararodney.sekft.resident.state import Resident

TRAIN = "{lora-r: 2, learning-rate: 0.01, tokens-per-batch: 64, max-steps: 2}"


def sweep_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return file


def test_a_grid_gives_every_combination(tmp_path: Path) -> None:
    text = """
    out: o
    train: {epochs: 1, lora_r: 4}
    grid: {learning-rate: [0.1, 0.2], lora-r: [8, 16]}
    runs: [{name: plain}, {use-dora: true}]
    """
    sweep = read_sweep(sweep_file(tmp_path, text))
    assert list(sweep.runs) == [
        "learning-rate-0.1,lora-r-8",
        "learning-rate-0.1,lora-r-16",
        "learning-rate-0.2,lora-r-8",
        "learning-rate-0.2,lora-r-16",
        "plain",
        "run-2",
    ]
    assert sweep.runs["learning-rate-0.2,lora-r-8"] == {"epochs": 1, "lora-r": 8, "learning-rate": 0.2}
    assert sweep.runs["run-2"] == {"epochs": 1, "lora-r": 4, "use-dora": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"the file: found \[\].+ has the keys out, train, eval, grid, runs"),
        ("out: o\nextra: 1", "extra: found 1. Extra inputs are not permitted"),
        ("runs: [{}]", "out: found .+ Field required"),
        ("out: o", "found no run"),
        ("out: o\nruns: {a: 1}", "runs: found .+ valid list"),
        ("out: o\nruns: [3]", "runs.0: found 3. Input should be a valid dict"),
        ("out: o\ngrid: {seed: 3}", "grid.seed: found 3. Input should be a valid list"),
        ("out: o\nruns: [{name: a}, {name: a}]", "found the run name 'a'"),
        ("out: o\nruns: [{name: ../a}]", "found the run name '../a'"),
        ("out: o\nruns: [{name: base}]", "found the run name 'base'"),
        ("out: [", "not YAML"),
    ],
)
def test_what_is_no_sweep_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_sweep(sweep_file(tmp_path, text))


def rate(k: int, n: int = 4) -> dict[str, Any]:
    return {"k": k, "n": n, "value": k / n if n else None, "low": 0.0, "high": 1.0}


def report_of(**success: int) -> dict[str, Any]:
    """Return what matters here of an evaluation's report: successes of four worlds each, by model."""
    models = [
        {"name": n, "rates": {r: rate(k) for r in ("success", "verified", "operate")}} for n, k in success.items()
    ]
    paired = [
        {"second": name, "rates": {"success": {"difference": (k - success["base"]) / 4, "p_value": 0.02}}}
        for name, k in success.items()
        if name != "base"
    ]
    return {"models": models, "paired": paired, "scenarios": {"n": 4}, "runtime": "bwrap"}


def test_a_leaderboard_ranks_by_success_and_corrects_for_the_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, {}, {"one": {"seed": 1}, "two": {"seed": 2}, "broken": {}, "later": {}})
    board = leaderboard(sweep, report_of(base=1, one=2, two=4), {"broken": "out of memory\nat step 3"})
    assert [row["name"] for row in board["rows"]] == ["two", "one", "base"]
    assert [row["settings"] for row in board["rows"]] == [{"seed": 2}, {"seed": 1}, {}]
    assert board["rows"][0]["against_base"] == {"difference": 0.75, "p_value": 0.02, "p_holm": 0.04}
    assert board["rows"][2]["against_base"] is None
    assert (board["waiting"], list(board["failed"])) == (["later"], ["broken"])
    assert [" ".join(line.split()) for line in table(board)][1:] == [
        "1 two 4/4 1.00 [0.00, 1.00] 4/4 1.00 [0.00, 1.00] 4/4 1.00 [0.00, 1.00] +0.75 0.040",
        "2 one 2/4 0.50 [0.00, 1.00] 2/4 0.50 [0.00, 1.00] 2/4 0.50 [0.00, 1.00] +0.25 0.040",
        "3 base 1/4 0.25 [0.00, 1.00] 1/4 0.25 [0.00, 1.00] 1/4 0.25 [0.00, 1.00]",
        "- broken failed: out of memory",
    ]


def test_a_leaderboard_of_nothing_says_what_waits(tmp_path: Path) -> None:
    board = leaderboard(Sweep(tmp_path, {}, {"one": {}}), None, {})
    assert (board["rows"], board["waiting"], board["worlds"]) == ([], ["one"], 0)


def test_a_leaderboard_shows_what_a_training_came_to(tmp_path: Path) -> None:
    adapter = tmp_path / "one" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "training.json").write_text(json.dumps({"result": {"step": 7, "seconds": 12.5}}))
    (adapter / "curve.jsonl").write_text('{"loss": 2.0}\n{"validation_loss": 1}\n{"loss": 1.25}\n')
    board = leaderboard(Sweep(tmp_path, {}, {"one": {}}), report_of(base=0, one=1), {})
    assert board["rows"][0]["training"] == {"steps": 7, "seconds": 12.5, "loss": 1.25}
    assert table(board)[1].split()[-2:] == ["1.2500", "12"]


def test_a_leaderboards_page_escapes_what_a_file_says(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, {}, {"one": {"data": "<script>"}, "two": {}})
    write_leaderboard(sweep, leaderboard(sweep, report_of(base=0, one=1), {"two": "<b>"}))
    page = (tmp_path / "leaderboard.html").read_text()
    assert "data=&lt;script&gt;" in page
    assert "failed: &lt;b&gt;" in page
    assert json.loads((tmp_path / "leaderboard.json").read_text())["rows"][0]["settings"] == {"data": "<script>"}


def test_settings_become_flags() -> None:
    settings = {"lora_r": 8, "use-dora": True, "resume": False, "data": ["a", "b"], "n": None}
    assert flags(settings) == ["--lora-r=8", "--use-dora", "--no-resume", "--data=a", "--data=b"]


def test_a_sweep_plays_the_adapters_of_its_evaluation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[EvalConfig] = []
    monkeypatch.setattr(runs, "evaluate", lambda config, *_: played.append(config))
    resident: Any = SimpleNamespace(base=None, should_stop=None)
    runs.evaluate_all(resident, EvalConfig(Path("s"), Path("o"), adapters=(Path("old=x"),)), {"new": Path("y")})
    assert [str(adapter) for adapter in played[0].adapters] == ["old=x", "new=y"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    claim(tmp_path / "run.json", {"sweep": {"settings": {"seed": 1}}})
    claim(tmp_path / "run.json", {"sweep": {"settings": {"seed": 1}}})
    with pytest.raises(UsageError, match=r"settings was .'seed': 1., now it is"):
        claim(tmp_path / "run.json", {"sweep": {"settings": {"seed": 1, "epochs": 2}}})


def test_flags_of_a_cycle_and_of_its_trainings_are_told_apart() -> None:
    own, training = split_flags(["--rounds", "2", "--lora-r", "4", "--data=d", "--use-dora", "--out", "o"])
    assert own == ["--rounds", "2", "--data=d", "--out", "o"]
    assert training == ["--lora-r", "4", "--use-dora"]


def session(sample: int, *commands: str, keep: bool, scenario: str = "s0") -> Episode:
    messages = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "$ "}]
    for command in commands:
        messages += [{"role": "assistant", "content": command}, {"role": "user", "content": f"({command})\n$ "}]
    return Episode(
        model="actor", scenario_id=scenario, archetype="repair", terminal="exit",
        outcome="success" if keep else "checker_failed",
        verified=keep, keep=keep, ended="exit", commands=len(commands), clean=True, prose_turns=0, runtime="bwrap",
        sample=sample, messages=tuple(messages[:-1]),
    )  # fmt: skip


def test_the_shortest_good_sessions_of_each_world_are_kept() -> None:
    played = [
        session(0, "ls", "touch done", "exit", keep=True),
        session(1, "touch done", "exit", keep=True),
        session(2, "touch done", "exit", keep=True),  # the same again
        session(3, "exit", keep=False),
        session(0, "ls", "exit", keep=True, scenario="s1"),
    ]
    assert [(e.scenario_id, e.sample) for e in choose(played, 1)] == [("s0", 1), ("s1", 0)]
    assert [(e.scenario_id, e.sample) for e in choose(played, 9)] == [("s0", 1), ("s0", 0), ("s1", 0)]


def test_each_world_gives_its_first_different_failures() -> None:
    played = [
        session(0, "ls", "exit", keep=False),
        session(1, "ls", "exit", keep=False),  # the same again
        session(2, "exit", keep=False),
        session(3, "touch done", "exit", keep=True),
        replace(session(4, "id", keep=False), infrastructure="engine down"),
        session(0, "exit", keep=False, scenario="s1"),
    ]
    assert [(e.scenario_id, e.sample) for e in failed(played, 1)] == [("s0", 0), ("s1", 0)]
    assert [(e.scenario_id, e.sample) for e in failed(played, 9)] == [("s0", 0), ("s0", 2), ("s1", 0)]


def test_pairs_part_where_the_replies_do() -> None:
    """The shape that TRL's DPO reads: lists of messages, the prompt ends with a user turn."""
    good, bad = session(0, "ls", "touch done", "exit", keep=True), session(1, "ls", "exit", keep=False)
    [pair] = preferences([good, bad], [])
    assert [m["role"] for m in pair["prompt"]] == ["system", "user", "assistant", "user"]
    assert [m["content"] for m in pair["chosen"]] == ["touch done", "(touch done)\n$ ", "exit"]
    assert [m["content"] for m in pair["rejected"]] == ["exit"]
    assert pair["prompt"] + pair["chosen"] == list(good.messages)


def test_a_world_that_answered_otherwise_makes_no_pair() -> None:
    good, bad = session(0, "ls", "exit", keep=True), session(1, "ls", "panic no", keep=False)
    messages = [dict(m) for m in bad.messages]
    messages[3]["content"] = "another time of day\n$ "
    assert list(preferences([good, replace(bad, messages=tuple(messages))], [])) == []
    assert list(preferences([good, replace(bad, infrastructure="engine down")], [])) == []


def test_a_corrected_session_is_preferred_to_the_one_it_continues() -> None:
    wrong, other = session(1, "ls", "exit", keep=False), session(0, "ls", "id", keep=False)
    record = trajectory(session(1, "ls", "touch done", "exit", keep=True), 1, "1")
    record["meta"]["sample"] = 1
    record["turns"][2]["train"] = False
    [pair] = preferences([other, wrong], [record, record | {"keep": False}])
    assert [m["content"] for m in pair["chosen"]] == ["touch done", "(touch done)\n$ ", "exit"]
    assert [m["content"] for m in pair["rejected"]] == ["exit"]
    assert all(m.keys() == {"role", "content"} for m in (*pair["prompt"], *pair["chosen"]))


def test_pairs_can_be_read_by_trl() -> None:
    trl = pytest.importorskip("trl.data_utils", reason="needs trl")
    [pair] = preferences([session(0, "ls", "exit", keep=True), session(1, "exit", keep=False)], [])
    assert trl.is_conversational(pair)


def test_kept_sessions_are_trajectories() -> None:
    from tiararodney.posix_sdc.schema import Trajectory

    read = Trajectory.from_json(trajectory(session(0, "touch done", "exit", keep=True), 1, "1"))
    assert (read.keep, read.split, read.operator_model, read.steps) == (True, "train", "round-1", 2)
    assert (read.meta["source"], read.meta["round"]) == ("kept", 1)
    assert [t.content for t in read.turns if t.role == "assistant"] == ["touch done", "exit"]


def require_bwrap() -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")


def bundle(folder: Path, name: str, split: str) -> Path:
    """Write a world in which leaving at once is right."""
    folder.mkdir(exist_ok=True)
    record: dict[str, Any] = {
        "id": name,
        "archetype": "repair",
        "terminal": "exit",
        "split": split,
        "workdir": "/work",
        "provider": {"name": "tasks"},
        "announcement": {"kind": "motd", "text": "Run tasks."},
        "checker": {"script": "true"},
        "reference_solution": ["exit"],
    }
    (folder / f"{name}.json").write_text(json.dumps(record))
    return folder


@pytest.mark.torch
@pytest.mark.bwrap
def test_a_sweep_ranks_its_runs_and_repeats_none(
    resident: Resident, data: Path, scenarios: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    require_bwrap()
    out = tmp_path / "sweep"
    text = f"""
    out: {out}
    train: {{data: {data}, tokens-per-batch: 64, max-steps: 2, lora-r: 2}}
    eval: {{scenarios: {scenarios}, max-turns: 1, max-new-tokens: 4, runtime: bwrap}}
    grid: {{learning-rate: [0.001, 0.01]}}
    runs: [{{name: "<b>", learning-rate: 1}}]
    """
    line = f"sweep {sweep_file(tmp_path, text)}"
    assert not run_line(resident, line)  # the name is no folder's
    file = sweep_file(tmp_path, text.replace("<b>", "broken").replace("learning-rate: 1}", "target-modules: nope}"))
    line = f"sweep {file}"
    assert not run_line(resident, line)  # one run fails, the others are ranked
    board = json.loads((out / "leaderboard.json").read_text())
    assert {row["name"] for row in board["rows"]} == {"base", "learning-rate-0.001", "learning-rate-0.01"}
    assert list(board["failed"]) == ["broken"]
    tuned = [row for row in board["rows"] if row["name"] != "base"]
    assert all(row["against_base"]["n"] == 1 and row["training"]["steps"] == 2 for row in tuned)
    printed = capsys.readouterr().out
    assert "learning-rate-0.01" in printed
    assert "<td>learning-rate-0.01</td>" in (out / "leaderboard.html").read_text()

    def trained_again(*_: Any) -> None:
        pytest.fail("a finished run was trained again")

    good = sweep_file(tmp_path, text.split("runs:", maxsplit=1)[0])
    monkeypatch.setattr(commands, "train", trained_again)
    lines = (out / "eval" / "episodes.jsonl").read_text()
    assert run_line(resident, f"sweep {good}")
    assert (out / "eval" / "episodes.jsonl").read_text() == lines
    other = sweep_file(tmp_path, text.split("runs:", maxsplit=1)[0].replace("max-steps: 2", "max-steps: 3"))
    assert not run_line(resident, f"sweep {other}")


@pytest.mark.torch
@pytest.mark.bwrap
def test_a_cycle_learns_from_its_sessions_and_resumes(
    resident: Resident, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That sessions succeed is scripted, for a tiny model does nothing right; worlds and trainings are real."""
    require_bwrap()
    real = worlds.to_episode

    def scripted(*args: Any) -> Episode:
        return replace(real(*args), verified=True, keep=True, clean=True, outcome="success")

    monkeypatch.setattr(worlds, "to_episode", scripted)
    demonstrations = tmp_path / "demos.jsonl"
    with demonstrations.open("w") as file:
        for i in range(6):
            turns = [
                {"role": "system", "content": "A terminal."},
                {"role": "user", "content": f"Run tasks {i}.\n$ "},
                {"role": "assistant", "content": "exit"},
            ]
            file.write(json.dumps({"id": f"d{i}", "scenario_id": f"d{i}", "messages": turns}) + "\n")
    train, holdout = bundle(tmp_path / "train", "t0", "train"), bundle(tmp_path / "holdout", "h0", "holdout")
    out = tmp_path / "cycle"
    common = (
        f"cycle --data {demonstrations} --scenarios {train} --holdout {holdout} --out {out} --samples 2 --max-turns 2 "
        "--temperature 0.1 --max-new-tokens 6 --runtime bwrap --lora-r 4 --learning-rate 0.02 --tokens-per-batch 512 "
        "--epochs 2 --rounds "
    )
    assert run_line(resident, common + "1"), capsys.readouterr().err
    first = (out / "round-0" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    acted = (out / "round-1" / "acting" / "episodes.jsonl").read_text()
    assert run_line(resident, common + "2")
    assert (out / "round-0" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == first
    assert (out / "round-1" / "acting" / "episodes.jsonl").read_text() == acted
    report = json.loads((out / "report.json").read_text())
    assert [entry["round"] for entry in report["rounds"]] == [0, 1, 2]
    last = report["rounds"][2]
    assert last["sessions"] == 2
    assert set(last["paired_with"]) == {"base", "round_before"}
    assert last["paired_with"]["round_before"]["n"] == 1
    assert report["rounds"][1]["kept"] == 1
    kept = [json.loads(line) for line in (out / "round-1" / "kept.jsonl").read_text().splitlines()]
    assert (kept[0]["scenario_id"], kept[0]["operator_model"]) == ("t0", "round-1")
    trained = json.loads((out / "round-1" / "adapter" / "training.json").read_text())
    assert (
        trained["data"]["digest"]
        != json.loads((out / "round-0" / "adapter" / "training.json").read_text())["data"]["digest"]
    )
    assert not run_line(resident, common.replace("--samples 2", "--samples 3") + "2")
    assert "samples" in capsys.readouterr().err


@pytest.mark.torch
@pytest.mark.bwrap
def test_a_cycle_trains_the_expert_where_the_adapter_went_wrong(
    resident: Resident, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a tiny model types goes wrong in a real world; of its session only the expert's turns have labels."""
    require_bwrap()
    from tiararodney.posix_sdc.factory.bundles import generate
    from tiararodney.sekft.render import build_masked_examples
    from tiararodney.sekft.trajectories import Sessions

    train, holdout = tmp_path / "train", bundle(tmp_path / "holdout", "h0", "holdout")
    train.mkdir()
    scenario = next(s for s in generate(9, 3, course="first") if s.archetype.startswith("text"))
    (train / "t0.json").write_text(json.dumps(scenario.to_json()))
    out = tmp_path / "cycle"
    line = (
        f"cycle --data {data} --scenarios {train} --holdout {holdout} --out {out} --samples 2 --max-turns 2 --rounds 1 "
        "--temperature 0.1 --max-new-tokens 6 --runtime bwrap --lora-r 2 --tokens-per-batch 2048 --max-steps 2"
    )
    assert run_line(resident, line), capsys.readouterr().err
    head, *rows = capsys.readouterr().out.split("\n\nreport:")[0].splitlines()[-4:]
    assert head.split()[:6] == ["sessions", "succeeded", "kept", "corrected", "rejected", "pairs"]
    assert [row.split()[0] for row in rows] == ["base", "round-0", "round-1"]
    assert rows[2].split()[1:7] == ["2", "0", "0", "1", "1", "1"]
    report = json.loads((out / "report.json").read_text())["rounds"][1]
    assert [report[k] for k in ("sessions", "succeeded", "kept", "corrected", "rejected")] == [2, 0, 0, 1, 1]
    [record] = [json.loads(line) for line in (out / "round-1" / "corrected.jsonl").read_text().splitlines()]
    assert (record["keep"], record["verified"], record["meta"]["source"], record["meta"]["round"]) == (
        True, True, "corrected", 1
    )  # fmt: skip
    [session] = Sessions(out / "round-1" / "corrected.jsonl")
    replies = [m for m in session.messages if m.role == "assistant"]
    assert [m.train for m in replies[: record["meta"]["cut"]]] == [False] * record["meta"]["cut"]
    tokenizer = resident.base.tokenizer
    examples = build_masked_examples(tokenizer, session.messages)
    labels = [i for example in examples for i in example.labels if i != -100]
    assert tokenizer.decode(labels) == "".join(f"{m.content}<|im_end|>" for m in replies[record["meta"]["cut"] :])
    digests = [
        json.loads((out / f"round-{n}" / "adapter" / "training.json").read_text())["data"]["digest"] for n in (0, 1)
    ]
    assert digests[0] != digests[1]

    def corrected_again(*_: Any) -> None:
        pytest.fail("a finished round was corrected again")

    monkeypatch.setattr(worlds, "correct", corrected_again)
    assert run_line(resident, line)


@pytest.mark.torch
def test_a_cycle_refuses_holdout_worlds_that_are_acted_in(
    resident: Resident, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = bundle(tmp_path / "both", "t0", "train")
    line = f"cycle --data {data} --scenarios {both} --holdout {both} --out {tmp_path / 'o'}"
    assert not run_line(resident, line)
    assert "1 of its worlds are acted in too, such as t0" in capsys.readouterr().err
