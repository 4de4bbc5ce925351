"""Several processes make one run: the same curve as one process, the same refusals on all of them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")
pytest.importorskip("accelerate", reason="needs accelerate (extra gpu)")
psutil = pytest.importorskip("psutil", reason="needs psutil (comes with accelerate)")

from safetensors.torch import load_file  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.errors import UsageError  # noqa: E402
from tiararodney.sekft.sft.checkpoint import checkpoint_folder, newest_checkpoint  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

Configure = Callable[..., TrainConfig]
ASKED = ("lora_r", "lora_alpha", "learning_rate", "tokens_per_batch", "tokens_per_row", "max_steps", "checkpoint_every")
MORE = ("validation_fraction", "validate_every", "terminal_weight", "epochs", "dtype", "device", "base", "out")


@pytest.fixture
def config(configure: Configure) -> TrainConfig:
    """A run of four steps with three or more rows each, so that processes get unequal shares."""
    how: dict[str, Any] = {"tokens_per_batch": 900, "tokens_per_row": 300, "max_steps": 4, "epochs": 4.0}
    return configure(**how, validation_fraction=0.2, validate_every=2, terminal_weight=2.0)


def launch(config: TrainConfig, *more: str) -> "subprocess.Popen[str]":
    """Start two processes of the command as `accelerate launch` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    flags = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in (*ASKED, *MORE)]
    command = [*accelerate, "--main_process_port", port, "-m", "tiararodney.sekft.sft.cli", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*command, f"--data={config.data[0]}", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "curve.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    """The rows' gradients are added in another order, so the last bits may differ and nothing else."""
    assert len(curve(one)) == 6
    for left, right in zip(curve(one), curve(other), strict=True):
        assert left == pytest.approx(right, rel=1e-4), left
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(other)[name], tensor, rtol=1e-2, atol=1e-4)


def test_two_processes_give_the_curve_of_one_that_takes_all_rows(config: TrainConfig, tmp_path: Path):
    alone = train(replace(config, out=tmp_path / "alone"))
    process = launch(config)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout == f"{config.out}\n", "one process prints, the other is silent"
    assert stderr.count("adapter in") == 1
    assert_same_run(alone, config.out)
    assert json.loads((config.out / "training.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_two_killed_processes_resume_to_the_bits_of_two_unbroken_ones(config: TrainConfig, tmp_path: Path):
    config = replace(config, max_steps=100, epochs=100.0, checkpoint_every=1)
    unbroken = replace(config, out=tmp_path / "unbroken")
    process = launch(unbroken)
    assert process.wait(120) == 0, process.communicate()[1]
    process = launch(config)
    while newest_checkpoint(checkpoint_folder(config.out)) is None:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    # the launcher gives each process a session of its own
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.communicate()
    assert not config.out.exists()
    process = launch(config, "--resume")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "resumed from checkpoint" in stderr
    left, right = weights(unbroken.out), weights(config.out)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM is not supported"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "--multi_gpu --num_processes"),
    ],
)
def test_a_launch_that_would_train_something_else_is_refused(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says):
        train(config)
