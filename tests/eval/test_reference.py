"""The instrument measured: the reference operator succeeds everywhere, doing nothing nowhere, in real worlds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tiararodney.posix_sdc.generate import generate
from tiararodney.posix_sdc.records.store import write_record
from tiararodney.posix_sdc.worlds.protocol import _unusable
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.cli import main
from tiararodney.sekft.eval.config import parse
from tiararodney.sekft.eval.contestants import BASELINES

if TYPE_CHECKING:
    from pathlib import Path

N = 12


@pytest.mark.parametrize(
    "runtime", [pytest.param("bwrap", marks=pytest.mark.bwrap), pytest.param("docker", marks=pytest.mark.docker)]
)
def test_reference_always_succeeds_and_doing_nothing_never(runtime: str, tmp_path: Path) -> None:
    """`panic` worlds are among them, so that giving up at once has something to be right about."""
    if (reason := _unusable(runtime)) is not None:
        pytest.skip(reason)
    solvable = [s for s in generate(60, 20) if s.terminal == "exit"]
    blocked = [s for s in generate(60, 20) if s.terminal == "panic"]
    (tmp_path / "worlds").mkdir()
    for scenario in (*solvable[: N - 3], *blocked[:3]):
        write_record(tmp_path / "worlds" / f"{scenario.id}.json", scenario)
    argv = ["--operator", "reference", "--scenarios", str(tmp_path / "worlds"), "--out", str(tmp_path / "out"), "-q"]
    assert main([*argv, "--runtime", runtime, "--fail-under", "success=1"]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    (model,) = report["models"]
    assert {name: (rate["k"], rate["n"]) for name, rate in model["rates"].items()} == dict.fromkeys(
        ("operate", "terminate", "clean_termination", "verified", "success"), (N, N)
    )
    assert model["kind"] == "operator"
    assert model["infrastructure_errors"] == 0
    assert {b["name"] for b in report["baselines"]} == set(BASELINES)
    for idle in report["baselines"]:
        assert [(idle["rates"][name]["k"], idle["rates"][name]["n"]) for name in ("verified", "success")] == [
            (0, N)
        ] * 2


def test_operator_and_model_are_evaluated_apart() -> None:
    with pytest.raises(UsageError, match="--operator plays no model"):
        parse(["--operator", "reference", "--base", "b", "--scenarios", "s", "--out", "o"])
