"""Shared by both runtimes: a supervisor that sets up a world, ends it and judges it.

A supervisor runs inside of each world, as its root. It proves who it is by a word that the session never sees, and says
`ended STATUS` when the session's shell is gone and `verdict STATUS` when the checker is. In between, what the session
left running has a moment to act on its last signals, the checker's probe asks what is still alive, everything is ended,
and the checker's trial runs what the session made, in a sandbox of its own. Both run as the session's user, and the
checker alone sees what they print.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.worlds import filesystem
from tiararodney.posix_sdc.worlds.shell import Shell, ShellLimits, Wire, quoted
from tiararodney.posix_sdc.worlds.verdict import Verdict, verdict

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.shell import CommandResult

START_SECONDS = 60.0
_END_SECONDS = 30.0
_OUTPUT_BYTES = 131_072
_HEARD_BYTES = 65536

CHECKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHECKER_ENVIRONMENT = {"PATH": CHECKER_PATH, "HOME": "/root", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Limits:
    """Limits of one world.

    Args:
        command_seconds: wall time of one command.
        session_seconds: wall time of the whole session; a command that would go beyond it is cut short.
        check_seconds: wall time of the checker.
        grace_seconds: what processes that the session leaves running have to act on its last signals.
        probe_seconds: wall time of the checker's probe, and of its trial.
        output_bytes: how much of one command's output is kept.
        memory_bytes: memory of all processes, where the runtime can hold it; else of each process.
        disk_bytes: what can be written into the world.
        pids: processes at a time.
        cpus: processors at a time, where the runtime can hold it.
    """

    command_seconds: float = 30.0
    session_seconds: float = 900.0
    check_seconds: float = 60.0
    grace_seconds: float = 1.0
    probe_seconds: float = 10.0
    output_bytes: int = 16_384
    memory_bytes: int = 512 * 1024**2
    disk_bytes: int = 64 * 1024**2
    pids: int = 128
    cpus: float = 1.0


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
            if kind == b"verdict":
                self.verdict = int(code)
            elif self.ended is None:
                self.ended = int(code)

    def last_words(self) -> str:
        """Return the end of the report, for messages."""
        return self.heard[-500:].decode("utf-8", "replace").strip()


class SupervisedWire(Wire, Protocol):
    """A wire whose report the supervisor speaks on too."""

    ear: Ear


class Supervised:
    """A session and its judgement over a wire (the part of a world that both runtimes share).

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
        limits, started = self._limits, False
        deadline = time.monotonic() + _END_SECONDS + 2 * limits.grace_seconds + 4 * limits.probe_seconds
        wire.send(b"\n" + word + b" check" + request, deadline)
        # What the session's processes print until they are ended comes before the checker's output, whose end stands
        # before the supervisor's word, which no process is left to add to.
        output, start, end = b"", b"\n" + word + b" start\n", b"\n" + word + b"\n"
        while wire.ear.verdict is None or not output.endswith(end):
            if time.monotonic() > deadline and not started:
                raise InfrastructureError(f"the checker did not start: {wire.ear.last_words() or 'no message'}")
            if time.monotonic() > deadline:
                detail = f"{_text(output)}\n[the checker did not end within {limits.check_seconds:g} s]"
                return Verdict(passed=False, detail=detail)
            with suppress(TimeoutError):
                output = (output + wire.receive(0.5)[0])[-_OUTPUT_BYTES:]
            if not started and start in output:
                started, output = True, output.rpartition(start)[2]
                deadline = time.monotonic() + limits.check_seconds
        return verdict(wire.ear.verdict, _text(output.removesuffix(end)))


def living(others: str, ticks: int) -> str:
    """Return sh that waits until the session's remaining processes have ended or their grace period is over.

    Args:
        others: a command that succeeds while there are any.
        ticks: how often it looks, twenty times a second or, on a machine under load, less often.
    """
    return f"n=0; while [ $n -lt {ticks} ] && {others}; do /usr/bin/sleep 0.05; n=$((n + 1)); done"


def asked(shell: str, workdir: str, limits: Limits) -> str:
    """Return sh that runs, as a child, the script on descriptor 6; its output goes to descriptor 7.

    Nobody else can read that script, nor trace the shell that runs it.

    Args:
        shell: the command that starts that shell, as the session's user.
        workdir: where it starts.
        limits: of its time.
    """
    reads = f'p=$(/usr/bin/cat <&6); exec 6<&-; cd {quoted(workdir)} && eval "$p"'
    wait = living("kill -0 $! 2>/dev/null", _ticks(limits.probe_seconds))
    return f"{shell} -c {quoted(reads)} </dev/null >&7 2>&1 7>&- & {wait}"


def grace(others: str, limits: Limits) -> str:
    """Return `living` with the grace period of the session's last processes."""
    return living(others, _ticks(limits.grace_seconds))


def _ticks(seconds: float) -> int:
    return max(int(seconds * 20), 1)


def _text(tail: bytes) -> str:
    return tail.decode("utf-8", "replace").replace("\0", "").strip()
