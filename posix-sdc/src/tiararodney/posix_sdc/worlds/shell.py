"""One long-lived dash, driven over a wire; says what each command printed, its status and how the session ended.

The shell reads its commands from a descriptor that no command can open, and reports on a second one. A command goes
out as one parse unit (A); when the shell says that it is back, a second unit (B) asks for the status under a fresh
128-bit nonce. B is read by the shell alone and only once it has come back to its top level, so the command that is
being judged can neither see the nonce nor answer early: what stands in B was never in a variable, an argument list, a
file, or a buffer that a program could read while the command ran.

The session's own code runs in A alone, where both descriptors are closed. What could run later are its traps, so A
ends by taking them all away in one builtin (a signal that comes between commands is kept and sent again in the next),
and only then says under a token of its own that it is back. A shell that answers B without having said so was thrown
out of A (SIGINT): every other process is ended then, and it has to answer twice more, the second time with nothing
but itself alive, before it is believed again.

`command eval` keeps syntax errors and errors of special builtins from ending the shell; dash without job control
(`-i +m`) ignores SIGTERM and takes SIGINT back to its top level, as an interactive shell does.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.worlds.output import Collector

if TYPE_CHECKING:
    from collections.abc import Sequence

Ended = Literal["exit", "panic", "died"]

# The two descriptors of the shell that its commands do not inherit: 8 is the terminal's output, 9 the report.
_OUT, _REPORT = 8, 9
# Where traps wait while the shell reads its next command; only the session itself can write there.
RUN = "/run/session"
TRAPS = f"{RUN}/traps"
# What a session can trap. Those in _KEPT are sent again in the next command where they come between two.
_KEPT = ("HUP", "USR1", "USR2", "ALRM", "TERM")
_SIGNALS = (
    "HUP USR1 USR2 ALRM TERM INT QUIT ILL TRAP ABRT BUS FPE SEGV PIPE 16 CHLD CONT TSTP TTIN TTOU URG XCPU XFSZ "
    "VTALRM PROF WINCH IO PWR SYS " + " ".join(map(str, range(34, 65)))
)
_PROBE_AFTER = 1.0
_GRACE = 0.5
_SETTLE_SECONDS = 3.0
_INTERRUPTS = 5
_BY_SIGNAL = 128
_STOPPED = 130  # the status of a command that SIGINT ended
_TRUST_ROUNDS = 2
_FLUSH_SECONDS = 5.0
_REPORT_BYTES = 65536
_PROGRAM_SECONDS = 10  # for each program that runs before the session


class Wire(Protocol):
    """A running dash, as a runtime hands it over. All calls come from one thread at a time."""

    def send(self, data: bytes, deadline: float) -> None:
        """Write to the shell's command descriptor until `deadline` (`time.monotonic()`); quiet when it is gone."""

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        """Return received data as ``(output, report)``, waiting at most `timeout` seconds for the first byte."""

    def ended(self) -> int | None:
        """Return the shell's exit status as `wait` would (128 + n for signal n) once it has ended, else None."""

    def interrupt(self) -> None:
        """Do what ^C does: send SIGINT (and SIGCONT) to every process of the session."""

    def clear(self) -> None:
        """Kill every process of the session but the shell."""

    def kill(self) -> None:
        """Kill the shell and everything it started."""


@dataclass(frozen=True)
class CommandResult:
    """What one command did.

    Args:
        output: stdout and stderr in order, as text, cut in the middle where it is too long.
        status: its exit status; None when the session ended with it.
        ended: None while the session goes on; ``exit``, ``panic`` or ``died`` once the shell has really ended.
    """

    output: str
    status: int | None
    ended: Ended | None = None


@dataclass(frozen=True)
class ShellLimits:
    """Wall time of one command and of the whole session, in seconds, and bytes of one command's output kept."""

    command_seconds: float
    session_seconds: float
    output_bytes: int


def prelude(secret: str, workdir: str, programs: Sequence[str] = ()) -> str:
    """Return what the shell runs before the first command.

    The EXIT trap names a function whose body dash cannot print: only the shell's real end, by `exit` or by running
    off its input, says the secret. `panic` is a function so that it can end the shell it is called in.

    Args:
        secret: the session's marker, never shown in the world.
        workdir: where the session starts.
        programs: paths of what runs once, to its end, before the session can be seen.
    """
    runs = "".join(
        f"timeout {_PROGRAM_SECONDS} {quoted(path)} >/dev/null {_OUT}>&- {_REPORT}>&-\n" for path in programs
    )
    return (
        "\\exec </dev/null 2>/dev/null\n"
        '__end() { \\set -- "$?" "$1" "x$-"; \\unset -f printf; '
        f"\\printf '\\n{secret} %s %s %s\\n' \"$@\" >&{_REPORT}; }}\n"
        "panic() { \\trap '__end panic' EXIT; \\exit 0; }\n"
        "\\trap '__end exit' EXIT\n"
        f"\\cd {quoted(workdir)}; \\unset OLDPWD\n{runs}"
    )


def quoted(text: str) -> str:
    """Quote text for the shell as one word."""
    return "'" + text.replace("'", "'\\''") + "'"


def typed(command: str) -> str:
    """Return the command as a terminal would pass it on: carriage returns are newlines, NUL is nothing."""
    return command.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


class Shell:
    """The host's side of one session.

    Args:
        wire: the running shell; nothing has been sent to it yet.
        limits: per command.
        workdir: where the session starts.
        programs: paths of what runs once before the session.
        end: what the runtime itself prints behind the last output of an ended session, unknown in the world.
    """

    def __init__(self, wire: Wire, limits: ShellLimits, workdir: str, programs: Sequence[str], end: str) -> None:
        self._wire, self._limits = wire, limits
        self._end = f"\n{end}\n".encode()
        self._secret = secrets.token_hex(16)
        self._report = b""
        self._deadline: float | None = None  # a session's time begins with its first command
        self._last, self._redirects, self._stray = 0, False, False
        self._unit = ""  # names the variables of the last unit, which no command has seen before it ended
        self.ended: Ended | None = None
        self._wire.send(prelude(self._secret, workdir, programs).encode(), time.monotonic() + limits.command_seconds)

    def ready(self, seconds: float) -> bool:
        """Wait until the shell answers for the first time; False when it does not within the time."""
        result = self._exchange(":", replace(self._limits, command_seconds=seconds))
        return result.ended is None and result.status == 0

    def run(self, command: str) -> CommandResult:
        """Run one command, to its end or to its limit.

        Args:
            command: what a person would type; it may span lines.

        Raises:
            InfrastructureError: the runtime failed.
        """
        if self.ended:
            return CommandResult("", None, self.ended)
        if self._deadline is None:
            self._deadline = time.monotonic() + self._limits.session_seconds
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._wire.kill()
            self.ended = "died"
            return CommandResult(f"[session stopped after {self._limits.session_seconds:g} s]\n", None, "died")
        limits = replace(self._limits, command_seconds=min(left, self._limits.command_seconds))
        result = self._exchange(typed(command), limits)
        if result.status is not None and (self._stray or "Cannot fork" in result.output):
            # What such a command left in the background goes too: it may be a fork bomb, or stand between us and the
            # shell. Answers to earlier questions are still to come: these come behind them all.
            again = result
            for _ in range(_TRUST_ROUNDS):
                if again.ended is None:
                    self._wire.clear()
                    limits = replace(self._limits, command_seconds=_FLUSH_SECONDS)
                    again = self._exchange(f"(exit {result.status})", limits)
            result = replace(result, ended=again.ended)
        self.ended = result.ended
        return result

    def _exchange(self, command: str, limits: ShellLimits) -> CommandResult:
        mark, token = secrets.token_hex(16), secrets.token_hex(16)
        back = f"\n{token}\n".encode()
        out = Collector(limits.output_bytes, (f"\n{mark}\n".encode(), self._end))
        self._report = b""
        start = time.monotonic()
        deadline = start + limits.command_seconds
        self._redirects = self._redirects or re.search(r"\bexec\b", command) is not None
        before, self._unit = self._unit, secrets.token_hex(8)
        self._wire.send(_unit(command, self._last, before, self._unit, token, keep=self._redirects), deadline)
        nonces: list[str] = []
        probe_at, interrupts = start + _PROBE_AFTER, 0
        while True:
            now = time.monotonic()
            if not nonces and (back in self._report or now >= probe_at):
                self._ask(nonces, mark)
            if now >= deadline:
                if interrupts == _INTERRUPTS:
                    self._wire.kill()
                if interrupts == 2 * _INTERRUPTS:
                    raise InfrastructureError("the session's shell cannot be killed")
                if interrupts:
                    self._wire.clear()
                self._wire.interrupt()
                self._ask(nonces, mark)
                interrupts += 1
                deadline = now + _GRACE * interrupts
            self._receive(out, min(deadline, deadline if nonces else probe_at) - now)
            status = self._status(nonces)
            if status is not None:
                reached = back in self._report
                self._last, self._stray = status if reached else _STOPPED, interrupts > 0 or not reached
                self._settle(out)
                return CommandResult(self._text(out, limits, stopped=interrupts > 0), self._last)
            if (code := self._wire.ended()) is not None:
                self._settle(out)
                return CommandResult(self._text(out, limits, stopped=interrupts > 0), None, self._how(command, code))

    def _ask(self, nonces: list[str], mark: str) -> None:
        nonces.append(secrets.token_hex(16))
        unit = (
            f"\\command printf '\\n{mark}\\n' >&{_OUT}; "
            f"\\command printf '\\n{nonces[-1]} %s\\n' \"${{s_{self._unit}-{_STOPPED}}}\" >&{_REPORT}\n"
        )
        self._wire.send(unit.encode(), time.monotonic() + _GRACE)

    def _receive(self, out: Collector, timeout: float) -> None:
        output, report = self._wire.receive(max(timeout, 0.0))
        out.feed(output)
        self._report = (self._report + report)[-_REPORT_BYTES:]

    def _status(self, nonces: list[str]) -> int | None:
        for nonce in nonces:
            if found := re.search(rf"\n{nonce} (\d+)\n".encode(), self._report):
                return int(found[1])
        return None

    def _settle(self, out: Collector) -> None:
        """Read remaining output up to the mark. A command that consumed the mark costs only the wait."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not out.complete and (left := deadline - time.monotonic()) > 0:
            self._receive(out, left)

    def _text(self, out: Collector, limits: ShellLimits, *, stopped: bool) -> str:
        # dash names the builtin that parsed the command; a person who types it sees no "eval: ".
        text = re.sub(r"^sh: (\d+): eval: ", r"sh: \1: ", out.text(), flags=re.MULTILINE)
        if stopped:
            text += (
                "" if not text or text.endswith("\n") else "\n"
            ) + f"[stopped after {limits.command_seconds:.3g} s]\n"
        return text

    def _how(self, command: str, code: int) -> Ended:
        """Name the ending of a shell that has exited, from its report and its exit status."""
        words = re.search(rf"\n{self._secret} (\d+) (exit|panic) x(\w*)\n".encode(), self._report)
        if words is None:
            # A signal, another program in its place, or a user who set an EXIT trap of their own.
            return "exit" if code < _BY_SIGNAL and asks_to_exit(command) else "died"
        if words[2] == b"panic":
            return "panic"
        if (b"e" in words[3] or re.search(r"\b(return|exec)\b", command)) and not asks_to_exit(command):
            return "died"
        return "exit"


def _unit(command: str, status: int, before: str, name: str, token: str, *, keep: bool) -> bytes:
    """Return unit A of a command.

    Args:
        command: what to run.
        status: what ``$?`` is when it begins.
        before: name of the unit before this one, empty for the first.
        name: of this one; no command has seen it before it is used.
        token: what says that the shell is back.
        keep: redirections of the shell's own descriptors (`exec >log`) last; descriptors 5 to 7 hold them.
    """
    # All that can run the session's code stands within `command eval`: when that word is looked up, none has run yet.
    first = f"{{ \\trap - {_SIGNALS}; \\command . {TRAPS} || \\:; }} 2>/dev/null; "
    if before:
        first += f'\\eval "${{k_{before}-}}"; \\unset -v k_{before} s_{before}; '
    first += f"f_{name}() {{ \\return {status}; }}; f_{name} && \\:; "  # without a process, where no more can be had
    # This is read whole, the status in it, before a trap can run once more, which changes nothing of it any longer.
    take_away = f"\\command trap >{TRAPS}; \\trap : {_SIGNALS}; s_{name}="
    then = f"; \\unset -f command f_{name}; \\trap - CHLD" + "".join(
        f"; \\trap 'k_{name}=\"${{k_{name}-}} \\command kill -s {s} \\$\\$;\"' {s}" for s in _KEPT
    )
    last = f"""{{ \\eval {quoted(take_away)}"$?"{quoted(then)}; }} 2>/dev/null"""
    run = "\\command eval " + quoted(f"{{ {first}}} 2>/dev/null; \\eval {quoted(command)}{'' if keep else ' 2>&1'}")
    if keep:
        held = "".join(
            f"; {{ \\command exec {to}{how}&{fd} || \\exec {to}{how}/dev/null; }} 2>/dev/null"
            for fd, to, how in ((0, 5, "<"), (1, 6, ">"))
        )
        ours = f"{{ \\command : <&7 || \\exec 5</dev/null 6>&{_OUT} 7>&{_OUT}; }} 2>/dev/null; "
        body = f"{ours}{{ {run}; {last}{held}; \\command exec 7>&2; }} <&5 >&6 2>&7"
    else:
        body = f"{{ {run}; {last}; }} </dev/null >&{_OUT} 2>/dev/null"
    return (
        f"{body} {_OUT}>&- {_REPORT}>&-; \\set +v; \\exec </dev/null >/dev/null 2>&1; "
        f"\\command printf '\\n{token}\\n' >&{_REPORT}\n"
    ).encode("utf-8", "replace")


def asks_to_exit(command: str) -> bool:
    """Return whether the command's last simple command, outside any group, is `exit`.

    Args:
        command: one command line as typed.
    """
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return False
    depth, first, last = 0, True, ""
    for word in words:
        if set(word) <= set("();<>|&"):
            depth += word.count("(") - word.count(")")
            first = True
        elif first:
            if depth == 0:
                last = word
            first = False
    return last == "exit"
