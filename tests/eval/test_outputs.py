"""What a run can be turned into: comparisons, JUnit XML, Inspect logs, an exit code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.cli import main, misses
from tiararodney.sekft.eval.compare import compare_runs
from tiararodney.sekft.eval.config import thresholds
from tiararodney.sekft.eval.contestants import Contestant
from tiararodney.sekft.eval.exports import junit_xml, write_inspect_logs
from tiararodney.sekft.eval.report import build_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.sekft.eval.episodes import Episode

FAILED = {"keep": False, "verified": False, "outcome": "unverified"}


def report_over(episodes: Sequence[Episode], *names: str, **config: Any) -> dict[str, Any]:
    ids = list(dict.fromkeys(e.scenario_id for e in episodes))
    return build_report(
        [Contestant(n, "base" if n == "base" else "adapter", f"/{n}", f"sha256:{n}") for n in names],
        episodes,
        {
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:14:05+00:00",
            "runtime": "bwrap",
            "git_revision": "",
            "versions": {},
            "scenarios": {"n": len(ids), "ids": ids, "archetypes": {"repair": len(ids)}},
            "config": {
                "temperature": 0.0, "seed": 0, "max_turns": 16, "max_new_tokens": 48, "load_4bit": True,
                "endpoint": [],
            } | config,
        },
    )  # fmt: skip


@pytest.fixture
def run_of(tmp_path: Path, episode: Callable[..., Episode]) -> Callable[..., Path]:
    """Return a maker of finished runs: `names` played scenarios, all of them successfully but those in `failed`."""

    def make(
        folder: str, *names: str, n: int = 6, failed: Sequence[str] = (), digest: str = "d", **config: Any
    ) -> Path:
        out = tmp_path / folder
        out.mkdir()
        episodes = [episode(f"s{i}", name, **(FAILED if name in failed else {})) for name in names for i in range(n)]
        (out / "report.json").write_text(json.dumps(report_over(episodes, *names, **config)))
        (out / "episodes.jsonl").write_text("".join(json.dumps(asdict(e)) + "\n" for e in episodes))
        identity = {"settings": config, "scenarios": {f"s{i}": digest for i in range(n)}}
        (out / "run.json").write_text(json.dumps(identity))
        return out

    return make


def test_compare_pairs_models_of_two_runs(run_of: Callable[..., Path]) -> None:
    report, _ = compare_runs([run_of("a", "base", "one", failed=["base"]), run_of("b", "base", "two", failed=["base"])])
    assert [m["name"] for m in report["models"]] == ["base", "one", "two"]
    assert [(p["first"], p["second"]) for p in report["paired"]] == [("base", "one"), ("base", "two")]
    assert report["paired"][1]["rates"]["success"]["only_second"] == 6


def test_compare_tells_models_of_one_name_apart(run_of: Callable[..., Path], tmp_path: Path) -> None:
    first, second = run_of("a", "base", "tuned"), run_of("b", "tuned", failed=["tuned"])
    changed = json.loads((second / "report.json").read_text())
    changed["models"][0]["fingerprint"] = "sha256:another"
    (second / "report.json").write_text(json.dumps(changed))
    report, _ = compare_runs([first, second])
    assert [m["name"] for m in report["models"]] == ["base", "tuned", "b/tuned"]
    assert [m["rates"]["success"]["k"] for m in report["models"]] == [6, 6, 0]


def test_compare_names_settings_that_differ(run_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_of("a", "base"), run_of("b", "two", max_turns=30)]
    page = runs[0] / "compared.html"
    assert main(["compare", *map(str, runs), "--out", str(page)]) == 0
    assert "another max_turns" in page.read_text()
    assert f"report: {page}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "report.json").unlink(), "report.json: cannot be read"),
        (lambda run: (run / "report.json").write_text("{"), "found no JSON"),
        (lambda run: (run / "report.json").write_text('{"schema_version": 1}'), "found schema_version 1"),
        (lambda run: (run / "episodes.jsonl").write_text("{}\n"), "episodes.jsonl:1: no episode"),
        (lambda run: (run / "run.json").write_text('{"scenarios": {"s0": "other"}}'), "the bundle of s0 differs"),
        (lambda run: (run / "run.json").write_text('{"scenarios": {"x": "d"}}'), "share no scenario"),
    ],
)
def test_compare_refuses_runs_it_cannot_pair(
    run_of: Callable[..., Path], spoil: Callable[[Path], Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_of("a", "base"), run_of("b", "two")]
    spoil(runs[1])
    assert main(["compare", *map(str, runs)]) == 2
    assert message in capsys.readouterr().err


def test_compare_needs_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path), "--json"]) == 2
    assert "found 1 folders, expected two or more" in capsys.readouterr().err


def test_junit_counts_failures_and_errors_apart(episode: Callable[..., Episode]) -> None:
    episodes = [
        episode("s0"),
        episode("s1", **FAILED, checker="no file \x1b[2J", prose_turns=1, clean=False),
        episode("s2", infrastructure="engine down", outcome="infrastructure"),
    ]
    root = ET.fromstring(junit_xml(report_over(episodes, "base"), episodes).encode())
    (suite,) = root
    assert {k: suite.get(k) for k in ("name", "tests", "failures", "errors")} == {
        "name": "base", "tests": "3", "failures": "1", "errors": "1",
    }  # fmt: skip
    failure, error = root.find(".//failure"), root.find(".//error")
    assert failure is not None
    assert error is not None
    assert (failure.get("type"), failure.get("message")) == ("prose turn", "no file ␛[2J")
    assert error.get("message") == "engine down"


def test_inspect_reads_the_log_with_scores_and_transcripts(episode: Callable[..., Episode], tmp_path: Path) -> None:
    inspect_log = pytest.importorskip("inspect_ai.log")
    checks = {"file done exists": False}
    episodes = [
        episode("s0"),
        episode("s1", **FAILED, checks=checks, sample=1),
        episode("s2", infrastructure="engine down", outcome="infrastructure"),
    ]
    write_inspect_logs(report_over(episodes, "base"), episodes, tmp_path / "inspect")
    log = inspect_log.read_eval_log(str(tmp_path / "inspect" / "base.eval"))
    assert (log.status, log.eval.model, len(log.samples)) == ("success", "sekft/base", 3)
    scores = {s.name: s.metrics["mean"].value for s in log.results.scores}
    assert scores["success"] == 0.5
    good, bad, broken = sorted(log.samples, key=lambda s: s.id)
    assert good.scores["success"].value == 1.0
    assert (bad.epoch, bad.scores["success"].value) == (2, 0.0)
    assert "FAIL: file done exists" in bad.scores["success"].explanation
    assert (broken.error.message, broken.scores) == ("engine down", None)
    assert [m.role for m in good.messages] == ["system", "user", "assistant"]
    assert good.messages[-1].text == "ls <dir> && exit"


def test_fail_under_looks_at_adapters_beside_a_base(episode: Callable[..., Episode]) -> None:
    episodes = [episode("s0", "base", **FAILED), episode("s0", "tuned")]
    assert misses(report_over(episodes, "base", "tuned"), {"success": 0.5}) == []
    alone = misses(report_over(episodes[:1], "base"), {"success": 0.5})
    assert alone == ["base: success is 0.000, --fail-under asks for 0.5"]


@pytest.mark.parametrize("value", ["success", "success=x", "success=1.5", "speed=0.5", "success=-1", "=0.5"])
def test_fail_under_refuses_what_is_no_rate(value: str) -> None:
    with pytest.raises(UsageError, match="--fail-under: found"):
        thresholds([value])
    with pytest.raises(UsageError, match="--fail-under: found"):
        thresholds(["success=0.5", value])


def test_fail_under_takes_names_as_the_table_shows_them() -> None:
    assert thresholds(["clean termination=0.5", "success=1"]) == {"clean_termination": 0.5, "success": 1.0}
