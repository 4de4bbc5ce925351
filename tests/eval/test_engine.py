"""A container engine that is stopped and started again in the middle of a run: a real one, this test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc.generate import generate
from tiararodney.posix_sdc.records.store import write_record
from tiararodney.posix_sdc.worlds.docker import engine
from tiararodney.posix_sdc.worlds.protocol import _unusable

if TYPE_CHECKING:
    from collections.abc import Iterator

N = 8
START_SECONDS, RUN_SECONDS = 60, 600


class Engine:
    """A dockerd with its own socket, state and containers, in a folder of its own.

    Args:
        folder: for all of it; a short path, as a socket's name has to be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"unix://{folder}/docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not.
        """
        where = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        folders = [f"--{flag}={self.folder / name}" for flag, name in where.items()]
        line = ["dockerd", f"--host={self.address}", *folders, "--bridge=none", "--iptables=false", "--ip6tables=false"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.client().close()
            except Exception:  # noqa: BLE001 - whatever the library says of a socket that nobody serves yet
                time.sleep(0.2)
            else:
                return
        self.stop()
        raise RuntimeError(f"no engine can be started here: {(self.folder / 'log').read_text()[-300:]}")

    def client(self) -> Any:
        """Return a client that the engine has answered."""
        import docker

        client = docker.DockerClient(base_url=self.address, timeout=START_SECONDS)
        client.ping()
        return client

    def stop(self) -> None:
        """Stop it and its containers."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """Return an engine that holds the world image; skips where none can be started."""
    if (reason := _unusable("docker")) is not None:
        pytest.skip(reason)
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("a dockerd of the test's own needs the program dockerd and root")
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    own = Engine(folder)
    try:
        try:
            own.start()
            with closing(engine.connect()) as shared, closing(own.client()) as mine:
                mine.images.load(b"".join(shared.images.get(engine.IMAGE).save(named=True)))
        except RuntimeError as error:
            pytest.skip(str(error))
        yield own
    finally:
        own.stop()
        shutil.rmtree(folder, ignore_errors=True)


def finished(out: Path) -> list[Any]:
    file = out / "episodes.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.docker
@pytest.mark.slow
def test_engine_restart_loses_no_episode(own_engine: Engine, tmp_path: Path) -> None:
    """Every session is scored in the end, and those that the engine spoilt are counted apart."""
    (tmp_path / "worlds").mkdir()
    for scenario in generate(N, 31):
        write_record(tmp_path / "worlds" / f"{scenario.id}.json", scenario)
    out = tmp_path / "out"
    line = [sys.executable, "-m", "tiararodney.sekft.eval.cli", "--operator", "reference", "--no-baselines"]
    line += ["--scenarios", str(tmp_path / "worlds"), "--out", str(out), "--runtime", "docker", "--concurrency", "2"]
    environment = os.environ | {"DOCKER_HOST": own_engine.address}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(line, env=environment, stdout=log, stderr=log) as run:
        until = time.monotonic() + RUN_SECONDS
        try:
            while len(finished(out)) < 2 and run.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            own_engine.stop()
            while not any(e["infrastructure"] for e in finished(out)) and run.poll() is None:
                time.sleep(0.1)
                assert time.monotonic() < until
            own_engine.start()
            assert run.wait(RUN_SECONDS) == 0, (tmp_path / "log").read_text()
        finally:
            run.kill()
    report = json.loads((out / "report.json").read_text())
    (model,) = report["models"]
    assert {name: (rate["k"], rate["n"]) for name, rate in model["rates"].items()} == dict.fromkeys(
        model["rates"], (N, N)
    )
    assert model["infrastructure_errors"] == 0
    spoilt = [e for e in finished(out) if e["infrastructure"]]
    assert report["infrastructure_errors_seen"] == len(spoilt) >= 1
    scored = Counter(e["scenario_id"] for e in finished(out) if not e["infrastructure"])
    assert len(scored) == N
    assert set(scored.values()) == {1}
