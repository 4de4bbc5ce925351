"""The script for the first contact with a GPU goes the whole way on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")

pytestmark = pytest.mark.torch
SCRIPT = Path(__file__).parents[1] / "benchmarks/gpu_smoke.py"


def run(out: Path, *flags: str) -> list[dict[str, object]]:
    command = [sys.executable, str(SCRIPT), str(out), "--tiny", *flags]
    done = subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (out / "smoke.jsonl").read_text() == done.stdout
    assert done.returncode == any("failed" in line for line in lines)
    return lines


def test_a_section_that_fails_costs_only_itself(tmp_path: Path):
    (tmp_path / "base").write_text("not a folder")
    base, env = run(tmp_path, "--sections", "base,env")
    assert "failed" in base
    assert env["section"] == "env"
    assert "failed" not in env


@pytest.mark.slow
def test_every_section_runs_on_a_cpu(tmp_path: Path):
    lines = run(tmp_path)
    assert len(lines) == 10
    assert [line for line in lines if "failed" in line] == []
    found = {line["section"]: line for line in lines}
    assert found["exact"]["float32"]["off_from_cpu"] < 1e-4
    assert found["base"]["same_bits"]
    assert found["resident"]["adapters"] == ["a", "b"]
