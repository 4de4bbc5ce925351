"""A whole run, with worlds in memory and a scripted endpoint for a model: what is played, counted, kept and told."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval.cli import main
from tiararodney.sekft.folders import locked

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_CHECKER = json.dumps(
    {
        "id": "x",
        "archetype": "a",
        "terminal": "exit",
        "provider": {"name": "t"},
        "announcement": {"kind": "motd", "text": "t"},
    }
)


def good(body: Any) -> str:
    """Do the work, then leave; in s1 leave at once, in s2 talk first."""
    said = [m["content"] for m in body["messages"] if m["role"] == "assistant"]
    here = body["messages"][1]["content"]
    if "s1" in here:
        return "exit"
    if "s2" in here and not said:
        return "Sure, I will help you."
    return "exit" if "touch done" in said else "touch done"


@pytest.fixture
def argv(scenarios: Path, server: Any, tmp_path: Path, memory_worlds: Callable[..., None]) -> list[str]:
    server.policy = good
    return [
        "--endpoint",
        server.url,
        "--model",
        "m",
        "--scenarios",
        str(scenarios),
        "--out",
        str(tmp_path / "out"),
        "-q",
    ]


def report_of(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out" / "report.json").read_text())


def k_of_n(rates: Any) -> dict[str, str]:
    return {name: f"{r['k']}/{r['n']}" for name, r in rates.items()}


def test_a_run_reports_what_was_played(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    report = report_of(tmp_path)
    (model,) = report["models"]
    assert k_of_n(model["rates"]) == {
        "operate": "3/4",
        "terminate": "4/4",
        "clean_termination": "4/4",
        "verified": "3/4",
        "success": "2/4",
    }
    assert k_of_n(model["by_archetype"]["audit"])["success"] == "1/2"
    assert model["failures"] == {"prose turn": 1, "checker failed": 1}
    assert report["schema_version"] == 2
    assert report["runtime"] == "bwrap"
    assert report["scenarios"]["ids"] == ["s2", "s0", "s3", "s1"]  # in turn from every archetype
    assert report["config"]["max_turns"] is None
    assert report["versions"]["tiararodney.sekft"]
    printed = capsys.readouterr().out
    assert "runtime bwrap · scenarios 4 of 2 archetypes · decoding greedy" in printed
    assert "success 2/4 0.50 [0.15, 0.85]" in " ".join(printed.split())
    assert printed.endswith(f"report: {tmp_path / 'out' / 'report.html'}\n")


def test_the_page_holds_every_transcript_and_nothing_from_outside(argv: list[str], tmp_path: Path) -> None:
    assert main(argv) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<details class="episode"') == 4
    assert "Sure, I will help you." in page
    assert "sh: 1: Sure,: not found" in page
    assert "src=" not in page
    assert "href=" not in page


def test_text_of_a_session_cannot_become_part_of_the_page(argv: list[str], tmp_path: Path, server: Any) -> None:
    server.policy = lambda _: "<script>alert(1)</script>\x1b[2J"
    assert main([*argv, "--max-turns", "1", "--n", "1"]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\u241b[2J" in page


def test_n_takes_scenarios_in_turn_from_every_archetype(argv: list[str], tmp_path: Path) -> None:
    assert main([*argv, "--n", "2"]) == 0
    assert report_of(tmp_path)["scenarios"]["archetypes"] == {"audit": 1, "repair": 1}


def lines_of(tmp_path: Path, model: str = "m") -> list[Any]:
    lines = [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()]
    return [line for line in lines if line["model"] == model]


def test_infrastructure_errors_are_apart_and_the_next_run_plays_them(
    argv: list[str], tmp_path: Path, memory_worlds: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    memory_worlds("s0")
    assert main(argv) == 0
    (model,) = report_of(tmp_path)["models"]
    assert (model["episodes"], model["n"], model["infrastructure_errors"]) == (4, 3, 1)
    assert k_of_n(model["rates"])["success"] == "1/3"
    assert "m: 1 infrastructure error, counted in no rate" in capsys.readouterr().out
    assert "the engine went away" in (tmp_path / "out" / "report.html").read_text()

    memory_worlds()
    assert main(argv) == 0
    (model,) = report_of(tmp_path)["models"]
    assert (model["episodes"], model["n"], model["infrastructure_errors"]) == (4, 4, 0)
    assert Counter(line["scenario_id"] for line in lines_of(tmp_path)) == {"s0": 4, "s1": 1, "s2": 1, "s3": 1}


def test_a_runtime_that_comes_back_gets_every_session_scored(
    argv: list[str], tmp_path: Path, memory_worlds: Callable[..., None], server: Any
) -> None:
    """The engine is down while s0 is first played; it answers again before the second pass."""
    memory_worlds("s0")

    def heals(body: Any) -> str:
        if any("s3" in m["content"] for m in body["messages"]) and good(body) == "exit":
            memory_worlds()
        return good(body)

    server.policy = heals
    assert main([*argv, "--concurrency", "1"]) == 0
    report = report_of(tmp_path)
    assert report["models"][0]["infrastructure_errors"] == 0
    assert report["infrastructure_errors_seen"] > 0


def test_a_server_that_answers_nobody_ends_the_run_which_resumes(
    argv: list[str], tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = server.answer

    def dies(body: Any) -> Any:
        if len(server.asked) > 4:
            raise ConnectionError
        return answer(body)

    monkeypatch.setattr(server, "answer", dies)
    one_by_one = [*argv, "--concurrency", "1", "--no-baselines"]
    assert main(one_by_one) == 1
    assert "Start the server again; the same command resumes." in capsys.readouterr().err
    log = tmp_path / "out" / "episodes.jsonl"
    before = log.read_bytes()
    assert 0 < before.count(b"\n") < 4
    log.write_bytes(before + b'{"model": "m", "scen')  # what a killed run may leave

    monkeypatch.setattr(server, "answer", answer)
    server.asked = []
    assert main(one_by_one) == 0
    assert log.read_bytes().startswith(before)
    assert k_of_n(report_of(tmp_path)["models"][0]["rates"])["success"] == "2/4"
    again = {b["messages"][1]["content"] for _, _, b in server.asked if b}
    finished = {json.loads(line)["messages"][1]["content"] for line in before.splitlines()}
    assert again.isdisjoint(finished)


def test_a_request_that_is_refused_costs_its_own_session_alone(argv: list[str], tmp_path: Path, server: Any) -> None:
    answer = server.answer
    server.answer = lambda body: (400, "broken") if body and "s3" in body["messages"][1]["content"] else answer(body)
    assert main(argv) == 0
    report = report_of(tmp_path)
    assert (report["models"][0]["n"], report["models"][0]["infrastructure_errors"]) == (3, 1)
    assert {line["scenario_id"] for line in lines_of(tmp_path) if line["infrastructure"]} == {"s3"}


def test_replies_without_content_are_counted_and_explained(argv: list[str], tmp_path: Path, server: Any) -> None:
    empty = {"message": {"content": None, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}
    server.answer = lambda body: (200, {"choices": [empty]}) if body else (404, "")
    assert main([*argv, "--n", "1", "--max-turns", "2"]) == 0
    (note,) = report_of(tmp_path)["notes"]
    assert note.startswith("m: 2 replies had no content (finish_reason tool_calls, tool_calls present)")
    assert "2 replies had no content" in (tmp_path / "out" / "report.html").read_text()


def test_report_says_how_imported_scenarios_are_judged(argv: list[str], tmp_path: Path, scenarios: Path) -> None:
    bundle = json.loads((scenarios / "s1.json").read_text())
    bundle["checker"]["judged_by"] = "the difference of two worlds"
    (scenarios / "s1.json").write_text(json.dumps(bundle))
    assert main(argv) == 0
    assert report_of(tmp_path)["notes"] == ["1 of 4 scenarios are judged by the difference of two worlds."]


def test_doing_nothing_is_reported_beside_the_models(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    baselines = {b["name"]: k_of_n(b["rates"]) for b in report_of(tmp_path)["baselines"]}
    assert set(baselines) == {"exit at once", "panic at once", "prose, then exit"}
    assert {b["success"] for b in baselines.values()} == {"0/4"}
    assert baselines["prose, then exit"]["operate"] == "0/4"
    assert "doing nothing" in capsys.readouterr().out
    assert [m["name"] for m in report_of(tmp_path)["models"]] == ["m"]


def test_repeats_are_played_apart_and_give_pass_at_k(argv: list[str], tmp_path: Path, server: Any) -> None:
    turns: Counter[str] = Counter()

    def sometimes(body: Any) -> str:
        here = body["messages"][1]["content"]
        if not any(m["role"] == "assistant" for m in body["messages"]):
            turns[here] += 1
            return "touch done" if turns[here] == 1 else "exit"
        return "exit"

    server.policy = sometimes
    assert main([*argv, "--repeats", "2", "--temperature", "1", "--no-baselines"]) == 0
    (model,) = report_of(tmp_path)["models"]
    assert (model["n"], model["repeats"], k_of_n(model["rates"])["success"]) == (8, 2, "4/8")
    assert model["pass_at"] == {"1": 0.5, "2": 1.0}
    assert model["pass_all"] == {"1": 0.5, "2": 0.0}
    assert {line["sample"] for line in lines_of(tmp_path)} == {0, 1}


def test_a_finished_run_given_again_plays_nothing(argv: list[str], server: Any) -> None:
    assert main(argv) == 0
    server.asked = []
    assert main(argv) == 0
    assert [path for path, _, _ in server.asked] == ["/v1/models"]


@pytest.mark.torch
def test_a_finished_run_needs_its_tokenizer_no_more(
    argv: list[str], server: Any, tiny_base: Path, tmp_path: Path
) -> None:
    exits = {"choices": [{"text": "exit", "finish_reason": "stop"}]}
    server.answer = lambda body: (404, "no list of models") if body is None else (200, exits)
    folder = shutil.copytree(tiny_base, tmp_path / "tokenizer")
    argv += ["--tokenizer", str(folder)]
    assert main(argv) == 0
    shutil.rmtree(folder)
    assert main(argv) == 0


def test_a_full_disk_ends_the_run_in_one_line_and_it_resumes(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, written = os.fsync, count()

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "episodes.jsonl" and next(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert main(argv) == 1
    assert "episodes.jsonl: cannot be written (No space left on device)." in capsys.readouterr().err
    assert main(argv) == 0
    assert report_of(tmp_path)["models"][0]["n"] == 4


def test_settings_are_read_from_a_pipe(argv: list[str], tmp_path: Path) -> None:
    """As the shell's `--config <(...)` gives one; it can be read once only."""
    ours, theirs = os.pipe()
    os.write(theirs, b"n: 1\nscenarios: " + argv[argv.index("--scenarios") + 1].encode())
    os.close(theirs)
    del argv[argv.index("--scenarios") :][:2]
    assert main([*argv, "--config", f"/dev/fd/{ours}"]) == 0
    os.close(ours)
    assert report_of(tmp_path)["scenarios"]["n"] == 1


def test_two_runs_do_not_write_one_folder(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / "episodes.jsonl"):
        assert main(argv) == 2
    assert "episodes.jsonl: process" in capsys.readouterr().err
    assert main(argv) == 0
    assert not list((tmp_path / "out").glob("*.lock"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--max-turns", "3"], "settings: max_turns was None, now it is 3"),
        (["--seed", "1"], "settings: seed was 0, now it is 1"),
    ],
)
def test_another_run_does_not_mix_into_the_same_folder(
    argv: list[str], change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    assert main([*argv, *change]) == 2
    assert message in capsys.readouterr().err


def test_a_changed_scenario_is_not_taken_for_the_one_that_was_played(
    argv: list[str], scenarios: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    file = scenarios / "s0.json"
    file.write_text(file.read_text().replace("touch done", "touch other"))
    assert main(argv) == 2
    assert "scenarios: s0 was" in capsys.readouterr().err


def test_a_second_model_joins_the_run_and_is_paired_with_the_first(
    argv: list[str], tmp_path: Path, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    server.policy, server.asked = lambda body: good(body) if body["model"] == "m" else "exit", []
    assert main([*argv, "--model", "lazy"]) == 0
    assert {b["model"] for _, _, b in server.asked if b} == {"lazy"}
    (pair,) = report_of(tmp_path)["paired"]
    assert (pair["first"], pair["second"]) == ("m", "lazy")
    verified = pair["rates"]["verified"]
    assert {k: verified[k] for k in ("both", "only_first", "only_second", "neither", "p_value", "p_holm", "n")} == {
        "both": 0,
        "only_first": 3,
        "only_second": 0,
        "neither": 1,
        "p_value": 0.25,
        "p_holm": 1.0,
        "n": 4,
    }
    assert "lazy against m, same worlds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "found an empty folder"),
        ("{", "broken JSON"),
        (WITHOUT_CHECKER, "field 'checker'"),
    ],
)
def test_bundles_that_cannot_be_used_are_named(
    argv: list[str], scenarios: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in scenarios.iterdir():
        file.unlink()
    if content is not None:
        (scenarios / "bad.json").write_text(content)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_quarantined_scenarios_are_left_out_and_other_splits_on_request(
    argv: list[str], scenarios: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scenarios / "s0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quarantine": "flaky"}))
    assert main(argv) == 0
    assert report_of(tmp_path)["scenarios"]["n"] == 3
    assert report_of(tmp_path)["scenarios"]["quarantined"] == 1
    assert main([*argv, "--split", "train"]) == 2
    assert "found 4 bundles (split holdout)" in capsys.readouterr().err


def test_fail_under_gives_exit_code_1_and_keeps_the_report(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    junit = tmp_path / "new" / "junit.xml"
    assert main([*argv, "--fail-under", "success=0.9", "--junit", str(junit)]) == 1
    assert "m: success is 0.500, --fail-under asks for 0.9" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").exists()
    assert junit.read_text().count("<testcase") == 4
    assert main([*argv, "--fail-under", "success=0.5"]) == 0


def test_json_prints_the_report_alone(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report_of(tmp_path)
