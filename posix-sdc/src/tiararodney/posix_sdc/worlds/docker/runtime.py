"""Worlds in containers of a Docker engine or a podman socket: one dash in each, driven over the attached streams.

The container's own process is a supervisor, root without most of root's capabilities. It unpacks the scenario that
comes on its standard input, starts the session's shell as the user (no capabilities, no way to gain any), passes the
rest of its input on to it, and when the shell is gone ends everything else and runs the checker. One attached
stream carries it all: no call to the engine is made for a command.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.worlds import filesystem
from tiararodney.posix_sdc.worlds.docker import engine
from tiararodney.posix_sdc.worlds.docker.engine import connect, guarded
from tiararodney.posix_sdc.worlds.gateway import SERVER
from tiararodney.posix_sdc.worlds.shell import RUN, quoted
from tiararodney.posix_sdc.worlds.supervisor import CHECKER_ENVIRONMENT, START_SECONDS, Ear, Supervised, asked, grace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.shell import CommandResult
    from tiararodney.posix_sdc.worlds.supervisor import Limits
    from tiararodney.posix_sdc.worlds.verdict import Verdict

LABEL = "tiararodney.posix-sdc"
# A call may take: one that signals or removes a container, one that looks for leftovers.
_CALL_SECONDS, _SWEEP_SECONDS = 30, 10
_HEADER = 8
_CONFLICT = 409
_OUT, _REPORT = 1, 2

# What the supervisor may do beyond an ordinary user, and why: lay out files of two owners (CHOWN, FOWNER), let
# the checker read what the session hid (DAC_OVERRIDE), end the user's processes (KILL), become the user for good
# (SETUID, SETGID, SETPCAP).
_CAPABILITIES = ["CHOWN", "FOWNER", "DAC_OVERRIDE", "KILL", "SETUID", "SETGID", "SETPCAP"]

# The first line of the input says how long the script is: it stands in no process's command line.
_AS_USER = (
    f"setpriv --reuid={filesystem.UID} --regid={filesystem.UID} --clear-groups --inh-caps=-all --bounding-set=-all "
    "--no-new-privs env -i --default-signal=INT,QUIT ENVIRONMENT"
)
_LOADER = 'IFS= read -r n; eval "$(head -c "$n")"'

# What passes the input on has to be gone before the host is told to send more: dying, it would still swallow it.
_SUPERVISOR = """\
IFS=' ' read -r word size
chmod 622 /proc/self/fd/1
head -c "$size" | tar -xp --numeric-owner -C / -f - || { echo "no room to stand the world up" >&2; exit 70; }
mkdir -p RUN && cd RUN && cp /bin/dash dash && chmod 711 dash && mkfifo -m 444 sh || exit 70
: >traps && chmod 666 traps || exit 70
[ ! -e SERVER ] || env -i CLEAN /bin/dash SERVER </dev/null >/dev/null 2>&1 &
gateway=$!
AS_USER /bin/dash -c \\
    'echo 500 >/proc/self/oom_score_adj; exec 8>&1 9>&2; exec RUN/dash -i +m sh 2>/dev/null' \\
    </dev/null &
shell=$!
exec 6<&0 7>sh
chmod 0 sh && rm sh || exit 70
cat <&6 >&7 2>/dev/null 6<&- &
pump=$!
exec 7>&-
others() {
    for p in /proc/[0-9]*; do
        p=${p#/proc/}
        case " 1 $$ $pump $gateway $SPARED " in *" $p "*) ;; *) for s in "$@"; do kill -$s $p; done ;; esac
    done 2>/dev/null
}
trap 'SPARED=; others CONT INT' USR1
trap 'SPARED=$shell; others KILL; others KILL; others KILL' HUP
trap 'kill -9 $shell' USR2
while :; do wait $shell; code=$?; kill -0 $shell 2>/dev/null || break; done
trap '' USR1 USR2 HUP
kill -9 $pump 2>/dev/null
wait $pump
printf '\\n%s\\n' "$word"
printf '\\n%s ended %s\\n' "$word" "$code" >&2
left() {
    for p in /proc/[0-9]*; do
        case " 1 $$ $gateway " in *" ${p#/proc/} "*) ;; *) return 0 ;; esac
    done
    return 1
}
# A shell that cannot fork exits, and what the session left may hold every process that the world has: the verdict is
# spoken on the way out, when all of that is gone.
trap judge EXIT
end() {
    kill -9 -1
    wait
    while left; do :; done
} 2>/dev/null
judge() {
    end
    [ ! -s RUN/trial ] || ( ASKED ) 6<RUN/trial 7>/run/trial
    end
    while IFS=' ' read -r one two size; do
        [ "$one $two" = "$word check" ] || continue
        head -c "$size" > RUN/checker
        printf '\\n%s start\\n' "$word"
        ( umask 022 && cd WORKDIR &&
            exec env -i --default-signal=HUP,USR1,USR2 CLEAN INTERPRETER RUN/checker </dev/null 2>&1 )
        code=$?
        kill -9 -1 2>/dev/null
        printf '\\n%s\\n' "$word"
        printf '\\n%s verdict %s\\n' "$word" "$code" >&2
    done
}
umask 077
GRACE
[ ! -s RUN/probe ] || { ASKED; } 6<RUN/probe 7>/run/probe
"""


def _own(entries: list[filesystem.Entry], size: int) -> dict[str, str]:
    """Return tmpfs mounts of limited size over every directory that the session may write to."""
    mounts: dict[str, str] = {}
    ours = [e.path for e in entries if e.kind == "dir" and not e.root]
    for path in sorted([*ours, "/tmp", "/var/tmp", "/run/lock"]):  # noqa: S108 - the world's
        if not any(path.startswith(above + "/") for above in mounts):
            mounts[path] = f"rw,exec,nosuid,nodev,size={size},mode=1777"
    return mounts


class _Wire:
    """The attached streams of a container (see `shell.Wire`)."""

    def __init__(self, container: Any, stream: socket.socket, word: str) -> None:
        self._container, self._socket, self.ear = container, stream, Ear(word)
        self._socket.settimeout(0)
        self._buffer = bytearray()

    def send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self._socket], [], left)[1]:
                return
            with contextlib.suppress(BlockingIOError):
                try:
                    view = view[self._socket.send(view) :]
                except (BrokenPipeError, ConnectionResetError):
                    return

    def receive(self, timeout: float) -> tuple[bytes, bytes]:
        if not self._whole() and select.select([self._socket], [], [], timeout)[0]:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return b"", b""
            except OSError as error:
                raise InfrastructureError(f"the container's stream broke: {error}") from None
            if not data:
                raise InfrastructureError(f"the container is gone: {self.ear.last_words() or 'no message'}")
            self._buffer += data
        streams = {_OUT: bytearray(), _REPORT: bytearray()}
        while self._whole():
            kind, length = struct.unpack_from(">BxxxI", self._buffer)
            streams.setdefault(kind, bytearray()).extend(self._buffer[_HEADER : _HEADER + length])
            del self._buffer[: _HEADER + length]
        self.ear.hear(bytes(streams[_REPORT]))
        return bytes(streams[_OUT]), bytes(streams[_REPORT])

    def _whole(self) -> bool:
        held = len(self._buffer)
        return held >= _HEADER and held >= _HEADER + struct.unpack_from(">I", self._buffer, 4)[0]

    def ended(self) -> int | None:
        return self.ear.ended

    def interrupt(self) -> None:
        self._signal("USR1")

    def clear(self) -> None:
        self._signal("HUP")

    def kill(self) -> None:
        if self.ear.ended is None:
            self._signal("USR2")

    def _signal(self, name: str) -> None:
        """Signal the supervisor, which acts on it."""
        with guarded("the container cannot be signalled"):
            self._container.kill(name)


class DockerWorld:
    """A scenario in a container."""

    runtime = "docker"

    def __init__(self, scenario: Scenario, limits: Limits) -> None:
        self._checker = scenario.checker.script.encode("utf-8", "surrogateescape")
        entries = filesystem.entries(scenario, base=False)
        bundle, script = filesystem.archive(entries, prefix=".", extra=_scripts(scenario)), _script(scenario, limits)
        word = secrets.token_hex(16)
        self._client = connect()
        self._container: Any = None
        self._stream: Any = None
        try:
            with guarded("no container can be started"):
                self._container = self._client.containers.create(engine.IMAGE, **_options(entries, limits))
                streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                self._stream = self._container.attach_socket(params=streams)
                self._container.start()
            self._client.api.timeout = _CALL_SECONDS
            wire = _Wire(self._container, getattr(self._stream, "_sock", self._stream), word)
            head = f"{len(script)}\n".encode() + script + f"{word} {len(bundle)}\n".encode()
            wire.send(head + bundle, time.monotonic() + START_SECONDS)
            self._session = Supervised(wire, scenario, limits)
        except BaseException:
            self.close()
            raise

    def run(self, command: str) -> CommandResult:
        """Run one command in the session's shell."""
        return self._session.run(command)

    def check(self) -> Verdict:
        """End the session, then let the checker judge the world."""
        return self._session.check(f" {len(self._checker)}\n".encode() + self._checker)

    def abort(self) -> None:
        """Close its stream, from any thread; closing the world removes the container."""
        stream = getattr(self._stream, "_sock", self._stream)
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Remove the container."""
        if self._container is not None:
            from docker.errors import APIError, NotFound

            container, self._container = self._container, None
            if self._stream is not None:
                with contextlib.suppress(OSError):
                    self._stream.close()
            with guarded("the container cannot be removed"), contextlib.suppress(NotFound):
                try:
                    container.remove(force=True, v=True)
                except APIError as error:
                    # The engine is at it already.
                    if error.status_code != _CONFLICT:
                        raise
        self._client.close()


def _script(scenario: Scenario, limits: Limits) -> bytes:
    def words(variables: Mapping[str, str]) -> str:
        return " ".join(quoted(f"{name}={value}") for name, value in variables.items())

    as_user = _AS_USER.replace("ENVIRONMENT", words(filesystem.environment(scenario)))
    parts = {
        "GRACE": grace("left", limits),
        "ASKED": asked(f"{as_user} {RUN}/dash", scenario.workdir, limits),
        "AS_USER": as_user,
        "CLEAN": words(CHECKER_ENVIRONMENT),
        "WORKDIR": quoted(scenario.workdir),
        "INTERPRETER": scenario.checker.interpreter,
        "RUN": RUN,
        "SERVER": SERVER,
    }
    pattern = re.compile(r"\b(" + "|".join(parts) + r")\b")
    return pattern.sub(lambda found: parts[found[0]], _SUPERVISOR).encode("utf-8", "surrogateescape")


def _scripts(scenario: Scenario) -> dict[str, bytes]:
    """Return what the checker's probe and trial are, as root's files."""
    texts = {"probe": scenario.checker.probe, "trial": scenario.checker.trial}
    return {f".{RUN}/{name}": text.encode("utf-8", "surrogateescape") for name, text in texts.items() if text}


def _options(entries: list[filesystem.Entry], limits: Limits) -> dict[str, Any]:
    from docker.types import LogConfig, Ulimit

    return {
        "command": ["/bin/dash", "-c", _LOADER],
        "user": "0:0",
        "working_dir": "/",
        "environment": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        "hostname": filesystem.HOSTNAME,
        "labels": {LABEL: owner.label()},
        "stdin_open": True,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "cap_add": _CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "init": True,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "shm_size": limits.disk_bytes,
        "pids_limit": limits.pids,
        "nano_cpus": int(limits.cpus * 1e9),
        "tmpfs": _own(entries, limits.disk_bytes),
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="fsize", soft=limits.disk_bytes, hard=limits.disk_bytes),
        ],
        # What a session prints is read from the stream; a log of it would fill the engine's disk.
        "log_config": LogConfig(type=LogConfig.types.NONE if hasattr(LogConfig.types, "NONE") else "none"),
    }


def start(scenario: Scenario, limits: Limits) -> DockerWorld:
    """Open a scenario's world in a container."""
    return DockerWorld(scenario, limits)


def sweep() -> int:
    """Remove containers of this machine whose owner has ended; return how many. Does nothing without an engine."""
    return sum(map(_sweep, engine.hosts())) if engine.addressed() else 0


def _sweep(host: str) -> int:
    client = connect(_SWEEP_SECONDS, host)
    removed = 0
    with contextlib.closing(client), guarded("leftovers cannot be removed"):
        from docker.errors import APIError

        for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
            if owner.gone(container.labels.get(LABEL, "")):
                with contextlib.suppress(APIError):
                    container.remove(force=True, v=True)
                    removed += 1
    return removed
