"""What both runtimes share: the world behind a supervisor, which stands it up, ends it and judges it.

A supervisor runs inside of each world, as its root. It proves who it is by a word that the session never sees, and says
`ended STATUS` when the session's shell is gone with every other process, and `verdict STATUS` when the checker is.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.worlds import filesystem
from tiararodney.posix_sdc.worlds.shell import Shell, ShellLimits, Wire

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.shell import CommandResult

START_SECONDS = 60.0
_END_SECONDS = 30.0
_DETAIL_BYTES = 32_768
_HEARD_BYTES = 65536

CHECKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHECKER_ENVIRONMENT = {"PATH": CHECKER_PATH, "HOME": "/root", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Limits:
    """What one world may use.

    Args:
        command_seconds: wall time of one command.
        session_seconds: wall time of the whole session; a command that would go beyond it is cut short.
        check_seconds: wall time of the checker.
        output_bytes: how much of one command's output is kept.
        memory_bytes: memory of all processes, where the runtime can hold it; else of each process.
        disk_bytes: what can be written into the world.
        pids: processes at a time.
        cpus: processors at a time, where the runtime can hold it.
    """

    command_seconds: float = 30.0
    session_seconds: float = 900.0
    check_seconds: float = 60.0
    output_bytes: int = 16_384
    memory_bytes: int = 512 * 1024**2
    disk_bytes: int = 64 * 1024**2
    pids: int = 128
    cpus: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What the checker says of a world's state; `detail` is the end of its output."""

    passed: bool
    detail: str


@dataclass
class Ear:
    """Listens for the supervisor on the report stream."""

    word: str
    heard: bytes = b""
    ended: int | None = None
    verdict: int | None = None
    _pattern: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._pattern = re.compile(rf"\n{self.word} (ended|verdict) (\d+)\n".encode())

    def hear(self, report: bytes) -> None:
        """Take more of the report."""
        if not report:
            return
        self.heard = (self.heard + report)[-_HEARD_BYTES:]
        for kind, code in self._pattern.findall(self.heard):
            if kind == b"ended":
                self.ended = int(code)
            else:
                self.verdict = int(code)

    def last_words(self) -> str:
        """Return the end of what was heard, for messages."""
        return self.heard[-500:].decode("utf-8", "replace").strip()


class SupervisedWire(Wire, Protocol):
    """A wire whose report the supervisor speaks on too."""

    ear: Ear


class Supervised:
    """A session and its judgement, over a wire (the part of a world that no runtime does differently).

    Args:
        wire: the running shell.
        scenario: the bundle.
        limits: what the world may use.

    Raises:
        InfrastructureError: the shell does not come up.
    """

    def __init__(self, wire: SupervisedWire, scenario: Scenario, limits: Limits) -> None:
        self._wire, self._limits = wire, limits
        per = ShellLimits(limits.command_seconds, limits.session_seconds, limits.output_bytes)
        self._shell = Shell(wire, per, scenario.workdir, filesystem.started(scenario), end=wire.ear.word)
        if not self._shell.ready(START_SECONDS):
            raise InfrastructureError(f"the session's shell did not start: {wire.ear.last_words() or 'no message'}")

    def run(self, command: str) -> CommandResult:
        """Run one command in the session's shell."""
        return self._shell.run(command)

    def check(self, request: bytes) -> Verdict:
        """End the session, then let the checker judge the world.

        Args:
            request: what tells the supervisor to go on, after its word.
        """
        wire, word = self._wire, self._wire.ear.word.encode()
        wire.kill()
        deadline = time.monotonic() + _END_SECONDS
        while wire.ended() is None:
            if time.monotonic() > deadline:
                raise InfrastructureError(f"the session did not end: {wire.ear.last_words() or 'no message'}")
            wire.receive(0.5)
        while wire.receive(0.0)[0]:
            pass
        deadline = time.monotonic() + self._limits.check_seconds
        wire.send(b"\n" + word + b" check" + request, deadline)
        # The supervisor's word stands behind the checker's last output, which no process is left to add to.
        tail, end = b"", b"\n" + word + b"\n"
        while wire.ear.verdict is None or not tail.endswith(end):
            if time.monotonic() > deadline:
                return Verdict(
                    passed=False,
                    detail=f"{_text(tail)}\n[the checker did not end within {self._limits.check_seconds:g} s]",
                )
            with suppress(TimeoutError):
                tail = (tail + wire.receive(0.5)[0])[-_DETAIL_BYTES:]
        return Verdict(passed=wire.ear.verdict == 0, detail=_text(tail.removesuffix(end)))


def _text(tail: bytes) -> str:
    return tail.decode("utf-8", "replace").replace("\0", "").strip()
