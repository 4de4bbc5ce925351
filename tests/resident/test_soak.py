"""Many mixed jobs on one resident, and a resident that is killed: nothing leaks, nothing finished is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft import residents
from tiararodney.sekft.resident import commands
from tiararodney.sekft.resident.loop import run_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiararodney.sekft.resident.state import Resident

pytestmark = pytest.mark.torch
FLAGS = "--lora-r 2 --learning-rate 0.01 --tokens-per-batch 64"


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def worlds_left() -> list[str]:
    """Command lines of this process's descendants: a world that leaked is one of them."""
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if "bwrap" in line]


def soak(
    resident: Resident, data: Path, scenarios: Path, tmp_path: Path, count: int, sample: Callable[[], None]
) -> None:
    """Carry out `count` jobs of all kinds while two clients ask for replies."""
    from tiararodney.sekft.model import Sampling

    rng = random.Random(7)
    over, wrong = threading.Event(), []
    sampling = Sampling(max_new_tokens=4, stop_ids=frozenset({2}))
    expected = resident.generator.submit([5, 6, 7], sampling).result().ids

    def client() -> None:
        while not over.is_set():
            reply = resident.generator.submit([5, 6, 7], sampling).result().ids
            if reply != expected:
                wrong.append(reply)
            over.wait(0.05)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    try:
        assert run_line(resident, f"train --data {data} --out {tmp_path / 'first'} {FLAGS} --max-steps 1")
        for number in range(count):
            one_job(resident, rng.choice(KINDS), data, scenarios, tmp_path, number)
            sample()
    finally:
        over.set()
        for thread in clients:
            thread.join()
    assert not wrong
    assert commands.probe(resident.base).agrees(resident.fingerprint)
    assert not resident.base.adapters.versions
    assert worlds_left() == []


KINDS = ("train", "eval", "load", "bad", "cancelled")


def one_job(resident: Resident, kind: str, data: Path, scenarios: Path, tmp_path: Path, number: int) -> None:
    """Carry out one job, and see that what it promises is there."""
    first, made = tmp_path / "first", tmp_path / f"{kind}-{number}"
    play = f"eval --scenarios {scenarios} --max-turns 1 --max-new-tokens 2 --runtime bwrap --no-baselines"
    if kind == "train":
        assert run_line(resident, f"train --data {data} --out {made} {FLAGS} --max-steps 1")
        assert (made / "adapter_model.safetensors").is_file()
    elif kind == "eval":
        assert run_line(resident, f"{play} --adapter {first} --out {made}")
        assert (made / "report.json").is_file()
    elif kind == "load":
        assert run_line(resident, f"load {first} hot")
        assert run_line(resident, "unload hot")
    elif kind == "bad":
        assert not run_line(resident, f"train --data {tmp_path / 'none'} --out {made}")
    else:
        cancelled(resident, f"train --data {data} --out {made} {FLAGS} --epochs 500")


def cancelled(resident: Resident, line: str) -> None:
    def cancel() -> None:
        while not resident.queue.jobs:
            time.sleep(0.005)
        time.sleep(0.05)
        resident.queue.cancel(resident.queue.jobs[0])

    thread = threading.Thread(target=cancel)
    thread.start()
    assert not run_line(resident, line)
    thread.join()


@pytest.mark.bwrap
def test_mixed_jobs_leave_nothing_behind(resident: Resident, data: Path, scenarios: Path, tmp_path: Path) -> None:
    require_bwrap()
    soak(resident, data, scenarios, tmp_path, 6, lambda: None)


@pytest.mark.bwrap
@pytest.mark.sweep
def test_memory_stays_flat_over_200_jobs(resident: Resident, data: Path, scenarios: Path, tmp_path: Path) -> None:
    """Of the last three quarters, each half has the same memory within 2 %; the first quarter warms up caches."""
    require_bwrap()
    pages: list[int] = []
    soak(resident, data, scenarios, tmp_path, 200, lambda: pages.append(resident_pages()))
    before, after = sorted(pages[50:125])[37], sorted(pages[125:])[37]
    assert after <= 1.02 * before


def require_bwrap() -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")


def test_a_killed_resident_leaves_finished_work_and_no_socket_in_the_way(
    tiny_base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    flags = ["--data", str(data), "--lora-r", "2", "--tokens-per-batch", "64", "--resident", "main"]
    done, cut = tmp_path / "done", tmp_path / "cut"

    def train(out: Path, *more: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tiararodney.sekft.sft.cli", *flags, "--out", str(out), *more]
        return subprocess.Popen(argv, stdout=-1, stderr=subprocess.STDOUT, text=True)

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tiararodney.sekft.resident.cli", "--base", str(tiny_base), "--device", "cpu"]
        process = subprocess.Popen([*command, "--name", "main"], stdin=subprocess.DEVNULL)
        wait_until(lambda: bool(residents.residents()))
        return process

    with start() as resident:
        assert ended(train(done, "--max-steps", "2")) == 0
        long = train(cut, "--epochs", "2000", "--checkpoint-every", "1")
        wait_until(lambda: bool(list((tmp_path / "cut.checkpoint").glob("checkpoint-*"))))
        resident.send_signal(signal.SIGKILL)
        assert ended(long) == 1
    assert (runtime / "sekft" / "main.sock").exists()
    assert (done / "adapter_model.safetensors").is_file()
    with start() as resident:
        again = train(cut, "--epochs", "2000", "--checkpoint-every", "1", "--resume")
        assert again.stdout is not None
        assert any("resumed from checkpoint" in line for line in again.stdout)
        again.send_signal(signal.SIGINT)
        assert ended(again) == 130
        resident.send_signal(signal.SIGTERM)
        assert resident.wait(120) == 130
    assert not (runtime / "sekft" / "main.sock").exists()


def ended(process: Any) -> int:
    process.communicate(timeout=240)
    return int(process.returncode)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
