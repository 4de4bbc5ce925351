"""The tiny base under real jobs: it is served between training steps, and every job leaves it as it was."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.resident import state
from tiararodney.sekft.resident.commands import run_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.resident.state import Resident

pytestmark = pytest.mark.torch
FLAGS = "--lora-r 2 --learning-rate 0.01 --tokens-per-batch 64"


def unchanged(resident: Resident) -> bool:
    return state.probe(resident.base).agrees(resident.fingerprint) and not resident.base.adapters.versions


def sampling(resident: Resident) -> Any:
    from tiararodney.sekft.model import Sampling

    return Sampling(max_new_tokens=8, stop_ids=frozenset({2}))


def test_replies_come_between_training_steps_and_change_nothing(resident: Resident, data: Path, tmp_path: Path) -> None:
    """The adapter that is trained while the base is busy serving is the one that is trained alone, bit for bit."""
    alone = tmp_path / "alone"
    assert run_line(resident, f"train --data {data} --out {alone} {FLAGS} --epochs 3")
    expected = resident.generator.submit([5, 6, 7], sampling(resident)).result().ids
    replies: list[list[int]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            replies.append(resident.generator.submit([5, 6, 7], sampling(resident)).result().ids)

    client = threading.Thread(target=ask)
    client.start()
    beside = tmp_path / "beside"
    try:
        assert run_line(resident, f"train --data {data} --out {beside} {FLAGS} --epochs 3")
        count = len(replies)
    finally:
        over.set()
        client.join()
    assert count > 3
    assert all(reply == expected for reply in replies)
    name = "adapter_model.safetensors"
    assert (beside / name).read_bytes() == (alone / name).read_bytes()
    assert unchanged(resident)


def out_of_memory(*_: Any, **__: Any) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


def test_a_job_that_ran_out_of_memory_leaves_nothing(
    resident: Resident, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiararodney.sekft.sft.trainer import PackedModel

    with monkeypatch.context() as patch:
        patch.setattr(PackedModel, "forward", out_of_memory)
        assert not run_line(resident, f"train --data {data} --out {tmp_path / 'a'} {FLAGS}")
    assert unchanged(resident)
    assert run_line(resident, f"train --data {data} --out {tmp_path / 'b'} {FLAGS}")


def test_a_cancelled_training_leaves_a_checkpoint_and_resumes(resident: Resident, data: Path, tmp_path: Path) -> None:
    line = f"train --data {data} --out {tmp_path / 'a'} {FLAGS} --epochs 400 --checkpoint-every 1"
    whole = f"train --data {data} --out {tmp_path / 'b'} {FLAGS} --epochs 2"

    def cancel() -> None:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "a.checkpoint").glob("checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        resident.queue[0].cancelled = True

    thread = threading.Thread(target=cancel)
    thread.start()
    assert not run_line(resident, line)
    thread.join()
    assert [(job.state, job.code) for job in resident.jobs] == [("cancelled", 130)]
    assert list((tmp_path / "a.checkpoint").glob("checkpoint-*"))
    assert unchanged(resident)
    assert run_line(resident, whole)


@pytest.mark.bwrap
def test_the_best_checkpoint_is_the_one_that_behaves_best(
    resident: Resident, data: Path, scenarios: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which evaluation succeeds is scripted; that the adapter plays in real worlds is not."""
    from tiararodney.sekft.resident import runs

    require_bwrap()
    played: list[int] = []
    real = runs.rates

    def scripted(episodes: Any) -> Any:
        from dataclasses import replace

        found = dict(real(episodes))
        played.append(found["success"].n)
        k = int(len(played) == 2)
        return found | {"success": replace(found["success"], k=k)}

    monkeypatch.setattr(runs, "rates", scripted)
    monkeypatch.setattr(runs, "EvalConfig", partial(runs.EvalConfig, max_turns=1, max_new_tokens=2))
    out = tmp_path / "best"
    judged = f"--eval-scenarios {scenarios} --eval-every 2 --eval-n 1 --max-steps 6"
    assert run_line(resident, f"train --data {data} --out {out} {FLAGS} --epochs 6 {judged}")
    assert played == [1, 1, 1]
    result = json.loads((out / "training.json").read_text())["result"]
    assert (result["best_step"], result["best"]) == (4, 1.0)
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    assert [entry["validation_success"] for entry in curve if "validation_success" in entry] == [0.0, 1.0, 0.0]
    plain = tmp_path / "plain"
    assert run_line(resident, f"train --data {data} --out {plain} {FLAGS} --epochs 6 --max-steps 6")
    name = "adapter_model.safetensors"
    assert (plain / name).read_bytes() != (out / name).read_bytes()
    assert unchanged(resident)


def require_bwrap() -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")


def test_behaviour_needs_a_resident(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiararodney.sekft.sft.cli import main

    argv = ["--base", "b", "--data", str(data), "--out", str(tmp_path / "x"), "--eval-scenarios", str(tmp_path)]
    assert main(argv) == 2
    assert "--eval-scenarios plays on a resident's base. Give --resident" in capsys.readouterr().err


def test_status_names_memory_queue_and_serving(resident: Resident, capsys: pytest.CaptureFixture[str]) -> None:
    resident.serving = "http://127.0.0.1:8000/v1"
    assert run_line(resident, "status")
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["memory"].endswith("GiB")
    assert (told["serving"], told["queue"], told["adapters"]) == (resident.serving, "empty", "none loaded")
    assert told["weights"].startswith("bit for bit as at the start")


def bit_flips(resident: Resident) -> list[Callable[[], None]]:
    import torch

    def flip(tensor: torch.Tensor) -> Callable[[], None]:
        def change() -> None:
            tensor.reshape(-1).view(torch.uint8)[-1] ^= 1

        return change

    with torch.no_grad():
        return [flip(parameter.data) for _, parameter in list(resident.base.model.named_parameters())[:3]]


def test_the_checksum_sees_one_bit_wherever_it_is(resident: Resident) -> None:
    from tiararodney.sekft.model import weights_checksum

    before = weights_checksum(resident.base)
    for change in bit_flips(resident):
        change()
        assert weights_checksum(resident.base) != before
        change()
        assert weights_checksum(resident.base) == before
