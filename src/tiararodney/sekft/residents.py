"""Residents of this user: where their sockets lie, and how a command is sent to one.

A resident listens on a unix socket in a folder that only its user can enter, and tells each client its base. The client
sends one JSON line, and reads JSON lines until the job ends; closing the connection cancels the job:

    < {"base": "/models/base"}
    > {"command": "train", "args": [...], "cwd": "/home/me"}          > {"cancel": true}
    < {"out": "text"}  < {"err": "text"}  < {"end": 0}
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
import stat
import struct
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.settings import setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import BufferedRWPair

log = logging.getLogger(__name__)

SUFFIX = ".sock"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
ANSWER_SECONDS = 5.0  # that a resident may take to tell its base


@dataclass(frozen=True)
class Remote:
    """The flag that sends a command to a resident, and the base that the command names, if any."""

    resident: str | None = setting(
        "run on a resident's loaded base (sekft-resident): the one of this name, or the one of this --base",
        default=None,
        metavar="NAME",
        bare="",
    )
    base: Path | None = None


def check_name(name: str) -> str:
    """Return a resident's name; raise a UsageError where it cannot be one."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"resident {name!r}: expected a name of letters, digits, '-', '_' and '.', such as main.")
    return name


def socket_folder() -> Path:
    """Return the folder of the sockets, made where it is missing: below XDG_RUNTIME_DIR, else in the temporary folder.

    Raises:
        UsageError: it cannot be made, or others own or can enter it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "sekft" if runtime else Path(tempfile.gettempdir()) / f"sekft-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be used for sockets ({error.strerror}). Set XDG_RUNTIME_DIR.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{folder}: found a folder that others own or can enter, expected mode 0700. Remove it.")
    return folder


@contextmanager
def address(name: str) -> Iterator[str]:
    """Yield a socket's address, and keep others from the folder meanwhile.

    It goes through the folder's descriptor, since an address holds 107 bytes only.
    """
    folder = os.open(socket_folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield f"/proc/self/fd/{folder}/{name}{SUFFIX}"
    finally:
        os.close(folder)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, as the kernel knows them."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def connect(name: str) -> tuple[str, BufferedRWPair] | None:
    """Connect to a resident; the socket of one that was killed is removed.

    Returns:
        The folder of its base and a stream of messages; None where no resident of that name answers.

    Raises:
        RunFailed: another user answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with address(name) as where:
                try:
                    connection.connect(where)
                except ConnectionRefusedError:
                    os.unlink(where)  # noqa: PTH108 - through the folder's descriptor
                    return None
            if peer(connection)[1] != os.getuid():
                raise RunFailed(f"resident {name}: another user's process answers. Nothing was sent.")
            stream = connection.makefile("rwb")
            base = json.loads(stream.readline())["base"]
        except TimeoutError:
            log.warning("resident %s: no answer within %g s; it is stopped, or about to end", name, ANSWER_SECONDS)
            return None
        except (OSError, ValueError):  # none is there, or it has just ended
            return None
        connection.settimeout(None)
        return base, stream


def residents() -> dict[str, str]:
    """Return the residents that run and the folders of their bases."""
    found = {}
    for name in sorted(file.stem for file in socket_folder().glob(f"*{SUFFIX}")):
        if (answer := connect(name)) is not None:
            found[name], stream = answer
            stream.close()
    return found


def find(name: str, base: Path | None) -> str:
    """Return the name of the resident that a command is sent to: the one of a name, else (empty) the one of a base.

    Raises:
        UsageError: there is none, or there are several.
    """
    running = residents()
    said = ", ".join(f"{one} ({folder})" for one, folder in running.items()) or "none"
    if name:
        fitting = [one for one in running if one == check_name(name)]
    else:
        fitting = [one for one, at in running.items() if base is None or Path(at) == base.expanduser().resolve()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(f"--resident: {len(fitting)} residents fit: {said}. Give --resident NAME.")
    asked = f"of the name {name}" if name else f"of the base {base}" if base is not None else "at all"
    start = f"sekft-resident --base {base or 'DIR'}" + (f" --name {name}" if name else "")
    raise UsageError(f"--resident: no resident {asked} runs. Running: {said}. Start it in another terminal: {start}")


def run_there(command: str, argv: Sequence[str], asked: Remote) -> int:
    """Have a resident do a job, as if it ran in this folder, and return its exit code.

    Ctrl-C cancels the job, once more leaves at once.

    Raises:
        UsageError: no such resident runs.
        RunFailed: it ended meanwhile.
    """
    name = find(asked.resident or "", asked.base)
    if (answer := connect(name)) is None:
        raise RunFailed(f"resident {name}: it has just ended. Start it again, or leave --resident out.")
    with answer[1] as stream:
        send(stream, {"command": command, "args": list(argv), "cwd": os.getcwd()})  # noqa: PTH109 - as text
        try:
            code = _follow(stream)
        except KeyboardInterrupt:
            sys.stderr.write("cancelling the job; once more to leave without waiting\n")
            with suppress(OSError):
                send(stream, {"cancel": True})
            code = _follow(stream)
    if code is None:
        raise RunFailed(f"resident {name} ended before the job did. A training goes on with --resume.")
    return code


def _follow(stream: BufferedRWPair) -> int | None:
    """Print what the job prints until it ends; None where the resident went away."""
    with suppress(ConnectionError):
        for line in stream:
            said = json.loads(line)
            if "end" in said:
                return int(said["end"])
            target = sys.stdout if "out" in said else sys.stderr
            target.write(said.get("out") or said.get("err") or "")
            target.flush()
    return None


def send(stream: BufferedRWPair, message: Mapping[str, Any]) -> None:
    """Write one message."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
