"""Servers that fail and runs that are killed: every session is scored or an infrastructure error, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import pytest

from tiararodney.posix_sdc.support import http_json
from tiararodney.sekft.eval.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FAULTS = ("429", "500", "cut", "null", "length", "silent", "error object")
EVERY = 10


def reply_to(body: Any) -> str:
    said = [m["content"] for m in body["messages"] if m["role"] == "assistant"]
    return ("ls", "touch done", "exit")[min(len(said), 2)]


class Faulty:
    """A server of chat completions whose every tenth request goes wrong in one way."""

    def __init__(self, fault: str = "") -> None:  # noqa: C901 - one handler, its faults side by side
        requests, release = count(1), threading.Event()
        self.release = release

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send({"data": [{"id": "m"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                choice: dict[str, Any] = {"message": {"content": reply_to(body)}, "finish_reason": "stop"}
                if fault and next(requests) % EVERY == 0:
                    self.fail(choice)
                else:
                    self.send({"choices": [choice]})

            def fail(self, choice: dict[str, Any]) -> None:
                if fault in ("429", "500"):
                    self.send({"error": {"message": "later"}}, int(fault), {"Retry-After": "0"})
                elif fault == "error object":
                    self.send({"error": {"message": "overloaded", "code": 503}})
                elif fault == "silent":
                    release.wait(5)
                elif fault == "cut":
                    self.send({"choices": [choice]}, cut=12)
                else:
                    choice["finish_reason"] = "length" if fault == "length" else "stop"
                    # Cut in the middle of a word that ends the session, so that it fails wherever this falls.
                    choice["message"]["content"] = None if fault == "null" else "panic the fi"
                    self.send({"choices": [choice]})

            def send(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None, cut: int = 0) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) - cut])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def many(scenarios: Path, tmp_path: Path) -> Path:
    """Return a folder of twelve bundles."""
    bundle = json.loads((scenarios / "s0.json").read_text())
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(12):
        (folder / f"s{i:02}.json").write_text(json.dumps(bundle | {"id": f"s{i:02}"}))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_with_faults_ends_with_every_session_accounted_for(
    fault: str, many: Path, tmp_path: Path, memory_worlds: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_json, "FIRST_PAUSE", 0.01)
    with Faulty(fault) as server:
        argv = [
            "--endpoint",
            server.url,
            "--model",
            "m",
            "--scenarios",
            str(many),
            "--out",
            str(tmp_path / "out"),
            "-q",
        ]
        assert main([*argv, "--no-baselines", "--request-seconds", "0.5", "--max-turns", "6"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (model,) = report["models"]
    assert model["n"] + model["infrastructure_errors"] == 12
    if fault in ("429", "500", "cut", "silent", "error object"):  # asked again: the fault leaves no trace
        assert (model["n"], model["rates"]["success"]["k"]) == (12, 12)
    else:
        assert 0 < model["rates"]["success"]["k"] < 12
        assert sum(model["failures"].values()) == 12 - model["rates"]["success"]["k"]
    if fault == "null":
        assert any("had no content (finish_reason stop)" in note for note in report["notes"])
    if fault == "length":
        assert set(model["failures"]) == {"token limit"}


@pytest.fixture
def killed_run(many: Path, tmp_path: Path) -> Iterator[Callable[[str, float | None], int]]:
    """Return a way to run the evaluation in a process of its own, and to kill it after some seconds."""
    with Faulty() as server:

        def run(out: str, seconds: float | None) -> int:
            argv = ["--endpoint", server.url, "--model", "m", "--scenarios", str(many), "--out", str(tmp_path / out)]
            command = [sys.executable, "-m", "tiararodney.sekft.eval.cli", *argv, "--runtime", "bwrap", "-q"]
            process = subprocess.Popen([*command, "--concurrency", "2"], stdout=subprocess.DEVNULL)
            if seconds is not None:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
            return process.wait(120)

        yield run


def result(out: Path) -> dict[tuple[str, str, int], Any]:
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    keys = [(e["model"], e["scenario_id"], e["sample"]) for e in lines if not e["infrastructure"]]
    assert len(set(keys)) == len(keys), "a finished session was played again"
    return {key: (e["outcome"], e["messages"]) for key, e in zip(keys, lines, strict=True)}


@pytest.mark.bwrap
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.sweep)])
def test_killed_runs_add_up_to_an_unbroken_one(
    kills: int, killed_run: Callable[[str, float | None], int], tmp_path: Path
) -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")
    assert killed_run("whole", None) == 0
    rng = random.Random(int(os.environ.get("SEKFT_SEED", "3")))
    for _ in range(kills):
        killed_run("parts", rng.uniform(0.3, 2.5))
    assert killed_run("parts", None) == 0
    whole, parts = result(tmp_path / "whole"), result(tmp_path / "parts")
    assert len(whole) == 12 * 4  # the model and the three that do nothing
    assert parts == whole
