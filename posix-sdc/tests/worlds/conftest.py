"""Worlds that an ordinary user opens, while the suite runs as root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.worlds import protocol
from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap
from tiararodney.posix_sdc.worlds.protocol import Check, CommandResult, Limits, Verdict, World, _unusable, open_world

USER = "bwrap-user"
_SERVER = """
import json, os, sys
from contextlib import ExitStack
from dataclasses import asdict
from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.worlds.protocol import Limits, open_world
assert os.geteuid() == 12345
worlds = {}
for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked["do"] == "open":
            stack = ExitStack()
            limits = Limits(**asked["limits"])
            world = stack.enter_context(open_world(Scenario.from_json(asked["scenario"]), "bwrap", limits))
            worlds[len(worlds)] = (world, stack)
            answer = len(worlds) - 1
        elif asked["do"] == "run":
            answer = asdict(worlds[asked["world"]][0].run(asked["command"]))
        elif asked["do"] == "check":
            answer = asdict(worlds[asked["world"]][0].check())
        else:
            answer = worlds[asked["world"]][1].close()
    except SchemaError as error:
        answer = {"refused": [error.source, error.field, error.found, error.expected, error.remedy]}
    print(json.dumps(answer), flush=True)
"""


class _UsersWorld:
    """A world in another process (the protocol of `World`)."""

    runtime = USER

    def __init__(self, ask: Callable[..., Any], scenario: Scenario, limits: Limits) -> None:
        self._ask = ask
        self._number = ask(do="open", scenario=scenario.to_json(), limits=asdict(limits))

    def run(self, command: str) -> CommandResult:
        return CommandResult(**self._ask(do="run", world=self._number, command=command))

    def check(self) -> Verdict:
        told = self._ask(do="check", world=self._number)
        return Verdict(told["passed"], told["detail"], tuple(Check(**c) for c in told["checks"]))

    def close(self) -> None:
        self._ask(do="close", world=self._number)

    def abort(self) -> None:
        self.close()


@pytest.fixture(scope="session")
def users_worlds() -> Iterator[Callable[[Scenario, Limits], World]]:
    """Return what opens a world as the user 12345."""
    python = Path("/usr/bin/python3")
    if (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("the whole suite runs as an ordinary user here")
    modern = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not python.exists() or subprocess.run([python, "-c", modern]).returncode:
        pytest.skip("no Python 3.11 that other users can run")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(Path(protocol.__file__).parents[2], f"{folder}/tiararodney")
        for place in {bwrap.program().path.parents[1], *(p.parent for p in bwrap.program().libraries)}:
            shutil.copytree(place, f"{folder}/{place.name}")
        line = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "env", "-i", f"PYTHONPATH={folder}"]
        server = subprocess.Popen(
            [*line, python, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )

        def ask(**what: Any) -> Any:
            server.stdin.write(json.dumps(what) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            if isinstance(answer, dict) and "refused" in answer:
                raise SchemaError(*answer["refused"])
            return answer

        yield lambda scenario, limits: _UsersWorld(ask, scenario, limits)
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def opened(request: pytest.FixtureRequest, stack: ExitStack) -> Callable[[Scenario, Limits], World]:
    """Return what opens worlds in a runtime, or as an ordinary user; they are closed with the stack."""
    name = request.param
    if name == USER:
        users = request.getfixturevalue("users_worlds")

        def start(scenario: Scenario, limits: Limits) -> World:
            world = users(scenario, limits)
            stack.callback(world.close)
            return world

        return start
    if (reason := _unusable(name)) is not None:
        pytest.skip(reason)
    return lambda scenario, limits: stack.enter_context(open_world(scenario, name, limits))


EVERYBODY = [
    pytest.param("bwrap", marks=pytest.mark.bwrap),
    pytest.param(USER, marks=pytest.mark.bwrap),
    pytest.param("docker", marks=pytest.mark.docker),
]


@pytest.fixture(params=EVERYBODY)
def attacked(request: pytest.FixtureRequest, scenario: Callable[..., Scenario]) -> Iterator[Callable[..., World]]:
    """Return a function that opens a world of a scenario's fields: in both runtimes, as root and as a user."""
    with ExitStack() as stack:
        start = opened(request, stack)
        yield lambda limits=None, **changes: start(scenario(**changes), limits or Limits())


@pytest.fixture(scope="module", params=EVERYBODY)
def attacked_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return one such world for many small attacks, each of which leaves its shell as it was."""
    data = {"id": "x", "archetype": "x", "terminal": "exit", "workdir": "/work", "checker": "test -e done"}
    data |= {"provider": {"name": "p"}, "announcement": {"kind": "motd", "text": "x"}}
    with ExitStack() as stack:
        yield opened(request, stack)(Scenario.from_json(data), Limits(command_seconds=10))
