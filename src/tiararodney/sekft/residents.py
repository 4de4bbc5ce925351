"""Residents of this user: where their sockets lie, and how a command is sent to one.

A resident listens on a unix socket in a folder that only its user can enter. A client sends one JSON line, and reads
JSON lines until the job ends; closing the connection cancels the job:

    > {"command": "train", "args": [...], "cwd": "/home/me"}          > {"cancel": true}
    < {"out": "text"}  < {"err": "text"}  < {"end": 0}
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
import struct
import sys
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.settings import setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SUFFIX = ".sock"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


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
    """Return a resident's name if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"resident {name!r}: expected a name of letters, digits, '-', '_' and '.', such as main.")
    return name


def socket_folder() -> Path:
    """Return the folder of the sockets, made where it is missing: below XDG_RUNTIME_DIR, else in the temporary folder.

    Raises:
        UsageError: another user owns it, others can enter it, or it cannot be made.
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
    """Yield a socket's address; it goes through the folder's descriptor, since an address holds 107 bytes only."""
    folder = os.open(socket_folder(), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}{SUFFIX}"
    finally:
        os.close(folder)


def lock_file(name: str) -> Path:
    """Return the file that a resident holds locked while it runs; it holds the folder of its base. The file stays."""
    return socket_folder() / f"{name}.lock"


@contextmanager
def claimed(name: str, wait: float = 0.0) -> Iterator[bool]:
    """Hold a resident's name; the lock goes with the process, however it ends.

    Args:
        name: the resident's.
        wait: seconds to wait for it, as a client holds it for a moment while it removes a socket.

    Yields:
        Whether it was free.
    """
    until, free = time.monotonic() + wait, False
    with lock_file(name).open("a") as file:
        while not free:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            if time.monotonic() >= until:
                break
            time.sleep(0.02)
        yield free


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end, as the kernel knows them."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def connect(name: str) -> socket.socket | None:
    """Connect to a resident.

    Returns:
        The connection, None where no resident of that name listens.

    Raises:
        RunFailed: another user answers.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(name) as where:
            connection.connect(where)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    if peer(connection)[1] != os.getuid():
        connection.close()
        raise RunFailed(f"resident {name}: another user's process answers. Nothing was sent.")
    return connection


def residents() -> dict[str, str]:
    """Return the residents that run and the folders of their bases; the socket of one that was killed is removed."""
    found = {}
    for file in sorted(socket_folder().glob("*.lock")):
        with claimed(file.stem) as free:
            if free:
                file.with_suffix(SUFFIX).unlink(missing_ok=True)
            elif base := file.read_text(encoding="utf-8"):
                found[file.stem] = base
    return found


def find(name: str, base: Path | None) -> str:
    """Choose the resident that a command is sent to.

    Args:
        name: its name; empty for the one with the given base.
        base: the base that the command names, None where it names none.

    Returns:
        Its name.

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
    """Have a resident do a job, as if it ran in this folder; Ctrl-C cancels the job, once more leaves at once.

    Args:
        command: such as ``train``.
        argv: its flags.
        asked: which resident.

    Returns:
        The job's exit code.

    Raises:
        UsageError: no such resident runs.
        RunFailed: it ended meanwhile.
    """
    name = find(asked.resident or "", asked.base)
    connection = connect(name)
    if connection is None:
        raise RunFailed(f"resident {name}: it has just ended. Start it again, or leave --resident out.")
    with closing(connection), connection.makefile("rwb") as stream:
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


def _follow(stream: Any) -> int | None:
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


def send(stream: Any, message: Mapping[str, Any]) -> None:
    """Write one message."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()
