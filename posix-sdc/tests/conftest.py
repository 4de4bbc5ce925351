"""What the tests of posix-sdc share: scenarios made in place, and worlds over both runtimes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tiararodney.posix_sdc.records.schema import Scenario, Trajectory, Turn
from tiararodney.posix_sdc.records.store import write_record
from tiararodney.posix_sdc.worlds.protocol import Limits, World, _unusable, open_world

BOTH = [
    pytest.param("bwrap", marks=pytest.mark.bwrap),
    pytest.param("docker", marks=pytest.mark.docker),
]


def make_scenario(**changes: Any) -> Scenario:
    """Return a small scenario, with the given fields changed."""
    data: dict[str, Any] = {
        "id": "test",
        "archetype": "test",
        "terminal": "exit",
        "workdir": "/work",
        "provider": {"name": "board", "documentation": "help"},
        "announcement": {"kind": "motd", "text": "Directives: board."},
        "directives": [],
        "fixtures": [],
        "checker": "test -e done",
        "reference_solution": ["touch done"],
    }
    return Scenario.from_json(data | changes)


def make_session(name: str, *, keep: bool = True, split: str = "train", outcome: str = "success") -> Trajectory:
    """Return a recorded session of two commands."""
    turns = (
        Turn("system", "facts"),
        Turn("user", "$ "),
        Turn("assistant", "cat <<E\nhi\nE"),
        Turn("user", "hi\n$ "),
        Turn("assistant", "exit"),
    )
    return Trajectory(
        id=name,
        scenario_id=f"s-{name}",
        version="1",
        archetype="text_count",
        terminal="exit",
        split=split,
        verified=keep,
        outcome=outcome,
        operator_model="reference",
        keep=keep,
        steps=2,
        meta={"clean": keep, "runtime": "bwrap"},
        turns=turns,
    )


@pytest.fixture
def session() -> Callable[..., Trajectory]:
    """Return the maker of recorded sessions."""
    return make_session


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Return a folder of three sessions: one kept of each split, and a reject."""
    where = tmp_path / "sessions"
    where.mkdir()
    for t in (
        make_session("a"),
        make_session("b", split="holdout"),
        make_session("c", keep=False, outcome="unverified"),
    ):
        write_record(where / f"{t.id}.json", t)
    return where


@pytest.fixture
def scenario() -> Callable[..., Scenario]:
    """Return the maker of small scenarios."""
    return make_scenario


@pytest.fixture(params=BOTH)
def runtime(request: pytest.FixtureRequest) -> str:
    """Return each runtime that can be used here; skips the others with their reason."""
    name: str = request.param
    reason = _unusable(name)
    if reason is not None:
        pytest.skip(reason)
    return name


@pytest.fixture
def stand_up(runtime: str) -> Iterator[Callable[..., World]]:
    """Return a function that opens a world of a scenario's fields; all are closed after the test."""
    with ExitStack() as stack:

        def start(limits: Limits | None = None, **changes: Any) -> World:
            return stack.enter_context(open_world(make_scenario(**changes), runtime, limits))

        yield start


@pytest.fixture(scope="module", params=BOTH)
def shared_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return one world for many small questions: tests that use it must leave its shell as it was."""
    reason = _unusable(request.param)
    if reason is not None:
        pytest.skip(reason)
    with open_world(make_scenario(), request.param, Limits(command_seconds=10)) as world:
        yield world


@pytest.fixture
def server() -> Iterator[Any]:
    """Serve prepared answers, `(status, body)` or a function of the request to one; requests are kept."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.requests.append((self.path, json.loads(body), self.headers.get("Authorization")))
            answers = self.server.answers
            status, answer = answers(self.server.requests[-1][1]) if callable(answers) else answers.pop(0)
            self.send_response(status)
            for name, value in self.server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.requests, http.answers, http.headers = [], [], {}
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()
