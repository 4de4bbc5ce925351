"""kill -9 at random moments: every run that is cut off goes on, and the last one ends in the unbroken run's bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from safetensors.torch import load_file  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.sft.checkpoint import checkpoint_folder, newest_checkpoint  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

# The libraries are loaded once; each run is a fork that has computed nothing yet: a kill costs no second import.
NURSERY = """
import json, os, sys
import tiararodney.sekft.sft.train, transformers.models.llama.modeling_llama, torch.utils.checkpoint
from tiararodney.sekft.sft.cli import main
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], Callable[[float | None], int]]]:
    """Start a run: `end = start(argv)`; then `end(seconds)` kills it after that time, `end(None)` lets it end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        assert nursery.stdout.readline() == "ready\n"

        def begin(argv: list[str]) -> Callable[[float | None], int]:
            nursery.stdin.write(json.dumps(argv) + "\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())

            def end(seconds: float | None) -> int:
                if seconds is not None:
                    time.sleep(seconds)
                    os.kill(child, signal.SIGKILL)
                return int(nursery.stdout.readline())

            return end

        yield begin
        nursery.stdin.close()


def flags(config: TrainConfig) -> list[str]:
    names = ("base", "out", "dtype", "device", "lora_r", "lora_alpha", "learning_rate", "tokens_per_batch", "epochs")
    more = ("max_steps", "checkpoint_every", "validation_fraction", "validate_every")
    given = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in (*names, *more)]
    return [*given, f"--data={config.data[0]}", "-q"]


def steps_done(config: TrainConfig) -> int:
    try:
        newest = newest_checkpoint(checkpoint_folder(config.out))
    except FileNotFoundError:  # an older one was dropped meanwhile
        return steps_done(config)
    return int(newest.name.removeprefix("checkpoint-")) if newest else 0


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_in_the_bits_of_the_unbroken_one(
    configure: Callable[..., TrainConfig], tmp_path: Path, start: Any, kills: int
):
    steps = 40 * kills
    config = configure(tokens_per_batch=300, epochs=float(steps), max_steps=steps, checkpoint_every=1)
    config = replace(config, validation_fraction=0.2, validate_every=25)
    unbroken = train(replace(config, out=tmp_path / "unbroken", checkpoint_every=0))
    moments = random.Random(kills)
    reached = [0]
    for number in range(kills):
        resume = ["--resume"] if checkpoint_folder(config.out).exists() else []
        end = start([*flags(config), *resume])
        # Every other kill may fall into the loading of the base; the rest wait for a checkpoint, and then some.
        if at_work := number % 2:
            wait_for(lambda: steps_done(config) > reached[-1])
        ended = end(moments.uniform(0, 0.2 if at_work else 0.8))
        assert ended == -signal.SIGKILL, "it ended before it was killed: give it more steps"
        assert not config.out.exists(), "no half an adapter"
        reached.append(steps_done(config))
        assert reached[-1] >= reached[-2], "what a checkpoint held is never lost"
    assert len(set(reached)) > kills // 2, f"half of the kills and more fell into the work: {reached}"
    assert reached[-1] < steps
    assert start([*flags(config), "--resume"])(None) == 0
    left, right = weights(unbroken), weights(config.out)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert {path.name for path in tmp_path.iterdir()} == {"trajectories", "unbroken", "adapter"}, "nothing is left over"
