"""Episodes made by hand, for what is counted over them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc import world
from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.sessions import loop as rollout
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Verdict
from tiararodney.sekft.eval.episodes import Episode, Generation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def episode() -> Callable[..., Episode]:
    """Return a maker of episodes; without arguments it makes a perfect one."""

    def make(scenario_id: str = "s0", model: str = "base", **changes: Any) -> Episode:
        values: dict[str, Any] = {
            "archetype": "repair",
            "terminal": "exit",
            "outcome": "success",
            "verified": True,
            "keep": True,
            "ended": "exit",
            "commands": 3,
            "clean": True,
            "prose_turns": 0,
            "runtime": "bwrap",
            "finished": "2026-01-02T03:04:05+00:00",
            "messages": (
                {"role": "system", "content": "A terminal."},
                {"role": "user", "content": "You have mail.\n$ "},
                {"role": "assistant", "content": "ls <dir> && exit"},
            ),
            "generations": (Generation(2, "ab" * 32, 41, (5, 6, 2), "end"),),
        }
        return Episode(model=model, scenario_id=scenario_id, **(values | changes))

    return make


def scenario_json(
    scenario_id: str, archetype: str = "repair", terminal: str = "exit", **changes: Any
) -> dict[str, Any]:
    """Return a bundle: the work is to make the file `done` in the session's folder."""
    return {
        "id": scenario_id,
        "archetype": archetype,
        "terminal": terminal,
        "split": "holdout",
        "workdir": "/work",
        "provider": {"name": "tasks"},
        "announcement": {"kind": "motd", "text": f"Today: {scenario_id}"},
        "checker": {"script": "test -e done"},
        "reference_solution": ["touch done"],
    } | changes


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    """Return a folder of four bundles of two archetypes."""
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for i, archetype in enumerate(("repair", "repair", "audit", "audit")):
        (folder / f"s{i}.json").write_text(json.dumps(scenario_json(f"s{i}", archetype)))
    return folder


class MemoryWorld:
    """A world without a machine: `touch done` does the work, `exit` and `panic` end, any other word is not found."""

    runtime = "bwrap"

    def __init__(self) -> None:
        self.done = False

    def run(self, command: str) -> CommandResult:
        word = command.split(maxsplit=1)[0]
        if word in ("exit", "panic"):
            return CommandResult("", None, word)
        if command == "touch done":
            self.done = True
            return CommandResult("", 0, None)
        return CommandResult(f"sh: 1: {word}: not found\n", 127, None)

    def check(self) -> Verdict:
        return Verdict(self.done, "" if self.done else "no file done")

    def close(self) -> None:
        pass


@pytest.fixture
def memory_worlds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put worlds in memory in place of real ones; scenario ids given to the returned function fail to stand up."""
    broken: set[str] = set()

    @contextmanager
    def open_world(scenario: Any, **_: Any) -> Iterator[MemoryWorld]:
        if scenario.id in broken:
            raise InfrastructureError("the engine went away")
        yield MemoryWorld()

    monkeypatch.setattr(rollout, "open_world", open_world)
    monkeypatch.setattr(world, "resolve_runtime", lambda _: "bwrap")

    def break_(*ids: str) -> None:
        broken.clear()
        broken.update(ids)

    return break_
