"""Many mixed jobs on one resident, and a resident that is killed: nothing leaks, nothing finished is lost."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tiararodney.sekft import residents
from tiararodney.sekft.resident import state
from tiararodney.sekft.resident.commands import run_line
from tiararodney.sekft.resident.listen import listening

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


class Soak:
    """A resident that listens and serves, and what its jobs work with.

    Args:
        resident: the resident.
        url: of its endpoint.
        data: demonstrations.
        scenarios: worlds.
        folder: where results go.
    """

    def __init__(self, resident: Resident, url: str, data: Path, scenarios: Path, folder: Path) -> None:
        self.resident, self.url, self.folder = resident, url, folder
        self.training = f"train --data {data} {FLAGS}"
        self.playing = f"eval --scenarios {scenarios} --max-new-tokens 2 --runtime bwrap --no-baselines"
        self.first = folder / "first"
        self.rng = random.Random(7)

    def train(self, made: Path) -> None:
        assert run_line(self.resident, f"{self.training} --max-steps 1 --out {made}")
        assert (made / "adapter_model.safetensors").is_file()

    def eval(self, made: Path) -> None:
        assert run_line(self.resident, f"{self.playing} --max-turns 1 --adapter {self.first} --out {made}")
        assert (made / "report.json").is_file()

    def load(self, _made: Path) -> None:
        assert run_line(self.resident, f"load {self.first} hot")
        assert run_line(self.resident, "unload hot")

    def bad_flag(self, made: Path) -> None:
        assert not run_line(self.resident, f"train --data {self.folder / 'none'} --out {made}")

    def bad_line(self, _made: Path) -> None:
        """What is no request closes its connection, and nothing else."""
        answer = residents.connect("soak")
        assert answer is not None
        with answer[1] as stream:
            stream.write(self.rng.randbytes(50).replace(b"\n", b" ") + b"\n")
            stream.flush()
            assert stream.read() == b""

    def bad_body(self, _made: Path) -> None:
        """What is no JSON, or asks for an unknown model or a negative length, is answered with its error."""
        for body in (b"{", b'{"model": "nobody", "messages": []}', json.dumps(self.asking(max_tokens=-1)).encode()):
            connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert 400 <= answer.status < 500, answer.read()
            assert json.loads(answer.read())["error"]["message"]
            connection.close()

    def cancelled(self, made: Path) -> None:
        cancelled(self.resident, f"{self.training} --epochs 500 --out {made}")

    def killed(self, made: Path) -> None:
        """A client on the socket is killed while its job runs: the job ends, its worlds with it."""
        long = self.rng.choice(
            [f"{self.training} --epochs 500", f"{self.playing} --max-turns 200 --repeats 50 --temperature 1"]
        )
        before = len(self.resident.jobs)
        words = [*long.split(), f"--out={made}"]
        request = json.dumps({"command": words[0], "args": words[1:], "cwd": str(self.folder)})
        with killed_client(SOCKET_CLIENT, str(residents.socket_folder() / "soak.sock"), request):
            wait_until(lambda: [j.state for j in self.resident.jobs[before:]] == ["running"])
            time.sleep(self.rng.random() / 5)
        [job] = self.resident.jobs[before:]
        wait_until(lambda: job.code is not None)
        assert job.state == "cancelled", job
        assert not (made / "adapter_model.safetensors").exists()

    def hung_up(self, _made: Path) -> None:
        """A client of the endpoint is killed, mostly while its reply is streamed: nothing is generated for it then."""
        body = json.dumps(self.asking(stream=True, max_tokens=3000, temperature=5.0))
        with killed_client(HTTP_CLIENT, urlsplit(self.url).netloc, body) as client:
            assert client.stdout is not None
            first = self.rng.random() < 0.5  # else before or while its prompt is read
            assert not first or client.stdout.readline().startswith("data: ")
            time.sleep(self.rng.random() / 5)
        wait_until(lambda: self.running() == 0)

    def asking(self, **more: Any) -> dict[str, Any]:
        return {"model": self.resident.base.path.name, "messages": [{"role": "user", "content": "$ "}]} | more

    def running(self) -> float:
        """Return how many requests the endpoint is answering, as it says itself."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(RUNNING))


RUNNING = "sekft_requests_running"
KINDS = ("train", "eval", "load", "bad_flag", "bad_line", "bad_body", "cancelled", "killed", "hung_up")
# With the standard library alone, so that two hundred jobs need no minutes of imports.
SOCKET_CLIENT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\n")
while s.recv(4096):
    pass
"""
HTTP_CLIENT = """
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1])
c.request("POST", "/v1/chat/completions", sys.argv[2], {"Content-Type": "application/json"})
for line in c.getresponse():
    print(line.decode(), end="", flush=True)
"""


class killed_client:  # noqa: N801 - reads as a function
    """Run a client, and kill it at the end of the block."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", *command], stdout=-1, text=True)

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def soak(
    resident: Resident, data: Path, scenarios: Path, tmp_path: Path, count: int, sample: Callable[[], None]
) -> None:
    """Carry out `count` jobs of all kinds in turn, in a shuffled order, while two clients ask for replies."""
    from tiararodney.sekft.model import Sampling
    from tiararodney.sekft.resident.serving.app import Server
    from tiararodney.sekft.resident.serving.run import serving

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
    with ExitStack() as stack:
        url = stack.enter_context(serving(Server(resident).app(), "127.0.0.1", 0))
        stack.enter_context(listening(resident, "soak"))
        for thread in clients:
            thread.start()
            stack.callback(thread.join)
        stack.callback(over.set)
        work = Soak(resident, url, data, scenarios, tmp_path)
        work.train(work.first)
        order = [KINDS[n % len(KINDS)] for n in range(count)]
        work.rng.shuffle(order)
        for number, kind in enumerate(order):
            getattr(work, kind)(tmp_path / f"{kind}-{number}")
            sample()
    assert not wrong
    assert state.probe(resident.base).agrees(resident.fingerprint)
    assert not resident.base.adapters.versions
    assert worlds_left() == []


def cancelled(resident: Resident, line: str) -> None:
    def cancel() -> None:
        while not resident.queue:
            time.sleep(0.005)
        time.sleep(0.05)
        resident.queue[0].cancelled = True

    thread = threading.Thread(target=cancel)
    thread.start()
    assert not run_line(resident, line)
    thread.join()


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that sockets go to."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.mark.bwrap
def test_mixed_jobs_leave_nothing_behind(resident: Resident, data: Path, scenarios: Path, tmp_path: Path) -> None:
    require_bwrap()
    soak(resident, data, scenarios, tmp_path, len(KINDS), lambda: None)


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
    tiny_base: Path, data: Path, tmp_path: Path, runtime: Path
) -> None:
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
