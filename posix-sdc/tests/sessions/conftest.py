"""Worlds that live in memory, in place of real ones."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.sessions import loop
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Verdict


@dataclass
class MemoryWorld:
    """Runs nothing: `echo` prints, `touch` marks the work done, `kill` ends the shell, anything else is not found."""

    runtime: str = "memory"
    done: bool = False
    closed: bool = False
    ran: list[str] = field(default_factory=list)
    fail_at: int = -1

    def run(self, command):
        self.ran.append(command)
        if len(self.ran) - 1 == self.fail_at:
            raise InfrastructureError("the engine went away")
        word, _, rest = command.partition(" ")
        if word in ("exit", "panic"):
            return CommandResult("", 0, word)
        if word == "kill":
            return CommandResult("", None, "died")
        if word == "echo":
            return CommandResult(rest, 0, None)
        self.done = self.done or word == "touch"
        return (
            CommandResult("", 0, None) if word == "touch" else CommandResult(f"sh: 1: {word}: not found\n", 127, None)
        )

    def check(self):
        return Verdict(self.done, "" if self.done else "check 1 of 1 failed")

    def close(self):
        self.closed = True


@pytest.fixture
def worlds(monkeypatch):
    """Put worlds of memory in place of real ones; `plan` makes the next ones."""
    opened = []

    class Worlds(list):
        world = staticmethod(MemoryWorld)
        plan = staticmethod(MemoryWorld)

    made = Worlds()

    @contextmanager
    def open_world(scenario, runtime="auto", limits=None):
        world = made.plan()
        made.append(world)
        try:
            yield world
        finally:
            world.close()

    monkeypatch.setattr(loop, "open_world", open_world)
    yield made
    assert all(w.closed for w in made), opened
