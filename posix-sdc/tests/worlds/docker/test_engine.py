from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.schema import Scenario
from tiararodney.posix_sdc.world import open_world
from tiararodney.posix_sdc.worlds.docker import engine, image, runtime

SCENARIO = Scenario.from_json(
    {
        "id": "hosts",
        "archetype": "hosts",
        "terminal": "exit",
        "provider": {"name": "board"},
        "announcement": {"kind": "motd", "text": "hello"},
        "checker": "true",
    }
)


class Clients:
    """Stands for the docker package: notes which engine each client is of; the ones in `down` do not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down: set[str] = set()

    def from_env(self, environment: dict[str, str], **_: object) -> SimpleNamespace:
        host = environment.get("DOCKER_HOST", "")
        self.asked.append(host)
        if host in self.down:
            raise OSError("connection refused")
        images = SimpleNamespace(get=lambda name: name)
        return SimpleNamespace(api=SimpleNamespace(api_version="1.41"), images=images, close=lambda: None, host=host)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    import docker

    stand_in = Clients()
    monkeypatch.setattr(docker, "from_env", stand_in.from_env)
    engine.version.cache_clear()
    yield stand_in
    engine.version.cache_clear()


def test_worlds_take_turns_on_several_engines(clients: Clients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://one:1, tcp://two:1,")
    assert engine.hosts() == ("tcp://one:1", "tcp://two:1")
    taken = [engine.connect().host for _ in range(6)]
    assert sorted(taken) == ["tcp://one:1"] * 3 + ["tcp://two:1"] * 3
    assert all(one != other for one, other in itertools.pairwise(taken))


def test_an_engine_that_is_down_is_named(clients: Clients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://one:1,tcp://two:1")
    assert engine.unusable() is None
    clients.down.add("tcp://two:1")
    engine.version.cache_clear()
    found = engine.unusable()
    assert found is not None
    assert found.startswith("tcp://two:1: no container engine answers: connection refused")
    with pytest.raises(InfrastructureError, match="connection refused"):
        [engine.connect() for _ in range(2)]


def test_leftovers_are_looked_for_on_every_engine(clients: Clients, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://one:1,tcp://two:1")
    seen = []
    monkeypatch.setattr(runtime, "_sweep", lambda host: seen.append(host) or 1)
    assert runtime.sweep() == 2
    assert seen == ["tcp://one:1", "tcp://two:1"]


def test_an_image_is_built_in_one_engine_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://one:1,tcp://two:1")
    with pytest.raises(UsageError, match="DOCKER_HOST names several engines"):
        image.build()


@pytest.mark.docker
def test_worlds_open_on_two_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    socket = next((p for p in map(Path, ("/var/run/docker.sock", "/run/docker.sock")) if p.exists()), None)
    if socket is None:
        pytest.skip("needs the engine's default socket")
    other = tmp_path / "other.sock"
    other.symlink_to(socket)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket},unix://{other}")
    engine.version.cache_clear()
    for _ in range(2):
        with open_world(SCENARIO, "docker") as world:
            assert world.run("echo here").output == "here\n"
    engine.version.cache_clear()
