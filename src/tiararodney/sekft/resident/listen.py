"""The resident's socket: takes jobs from other terminals of the same user, streams what they print."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shlex
import signal
import socket
import struct
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

from tiararodney.sekft import residents
from tiararodney.sekft.console import FAILED
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.loop import run_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.sekft.resident.state import Job, Resident

log = logging.getLogger(__name__)

CLONE_FS = 0x200  # of sched.h: with it, a thread's working folder becomes its own
CLAIM_SECONDS = 1.0  # to wait for a client that removes what a killed resident left
SEND_SECONDS = 30  # that a client may leave output unread


@contextmanager
def listening(resident: Resident, name: str) -> Iterator[None]:
    """Take jobs on a socket until the block is left.

    Args:
        resident: carries them out, one at a time.
        name: the resident's.

    Raises:
        UsageError: a resident of that name runs.
    """
    residents.check_name(name)
    with ExitStack() as stack:
        if not stack.enter_context(residents.claimed(name, CLAIM_SECONDS)):
            raise UsageError(f"--name {name}: a resident of this name runs already. Give another name.")
        about = residents.lock_file(name)
        about.write_text("", encoding="utf-8")
        where = stack.enter_context(residents.address(name))
        with suppress(FileNotFoundError):
            os.unlink(where)  # noqa: PTH108 - through the folder's descriptor; what a killed resident left
        server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        server.bind(where)
        stack.callback(about.with_suffix(residents.SUFFIX).unlink, missing_ok=True)
        os.chmod(where, 0o600)  # noqa: PTH101 - the same; nobody can connect before it listens
        server.listen()
        about.write_text(str(resident.base.path.resolve()), encoding="utf-8")
        stack.callback(_unroute)
        threading.Thread(target=_accept, args=(server, resident), name="sekft-listen", daemon=True).start()
        stack.callback(_wake, server)
        log.info("resident %s takes jobs: sekft-train ... --resident %s", name, name)
        yield


def _wake(server: socket.socket) -> None:
    """End `accept`, which closing alone does not."""
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, resident: Resident) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed: the resident ends
            return
        threading.Thread(target=_attend, args=(connection, resident), name="sekft-client", daemon=True).start()


def _attend(connection: socket.socket, resident: Resident) -> None:
    """Serve one client: start its job, then watch for its wish to cancel; that it goes away is one."""
    with closing(connection):
        pid, uid = residents.peer(connection)
        if uid != os.getuid():
            log.warning("refused process %d of user %d", pid, uid)
            return
        # A client that reads nothing any more must not hold up the job, and with it the queue.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        with suppress(OSError, ValueError, LookupError, TypeError), connection.makefile("rwb") as stream:
            asked = json.loads(stream.readline())
            words = [str(asked["command"]), *map(str, asked["args"])]
            job = resident.new_job(shlex.join(words), f"process {pid}")
            arguments = (resident, job, words, str(asked["cwd"]), _Client(connection))
            # Python waits for it at the end; a daemon is killed there, and inside torch that aborts the process.
            work = threading.Thread(target=_work, args=arguments, name=f"sekft-job-{job.number}", daemon=False)
            work.start()
            with suppress(OSError):
                stream.readline()  # {"cancel": true}, or nothing once the client is gone or the job has ended
            resident.queue.cancel(job)
            work.join()


class _Client:
    """What a job's output goes to."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.gone = connection, False
        self._lock = threading.Lock()

    def tell(self, **message: Any) -> None:
        """Send a message; a client that has gone away is told nothing."""
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            if self.gone:
                return
            try:
                self.connection.sendall(data)
            except OSError:
                self.gone = True
                _wake(self.connection)


def _work(resident: Resident, job: Job, words: list[str], cwd: str, client: _Client) -> None:
    """Carry out a client's job in this thread, in the client's folder."""
    code = FAILED
    try:
        with _output_to(client, job):
            try:
                _enter(cwd)
                code = run_words(resident, job, words)
            except (RunFailed, UsageError) as error:  # the folder cannot be entered, or the base has changed
                code = error.exit_code
                client.tell(err=f"{error}\n")
    finally:
        client.tell(end=code)
        _wake(client.connection)
        if resident.quitting or resident.changed:
            os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread from its prompt


def _enter(cwd: str) -> None:
    """Make a folder this thread's own working folder: relative paths of a job are its client's."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_FS) != 0:
        raise RunFailed(f"unshare: {os.strerror(ctypes.get_errno())}.")
    try:
        os.chdir(cwd)
    except OSError as error:
        raise UsageError(f"{cwd}: the resident cannot work there ({error.strerror}).") from None


_clients: dict[int, _Client] = {}  # by the thread of their job


class _Routed:
    """Stands for stdout or stderr: in a job's thread, what is written goes to the job's client."""

    def __init__(self, stream: IO[str], kind: str) -> None:
        self.stream, self._kind = stream, kind

    def write(self, text: str) -> int:
        client = _clients.get(threading.get_ident())
        if client is None:
            return self.stream.write(text)
        client.tell(**{self._kind: text})
        return len(text)

    def isatty(self) -> bool:
        return threading.get_ident() not in _clients and self.stream.isatty()

    def flush(self) -> None:
        if threading.get_ident() not in _clients:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _route() -> None:
    """Put `_Routed` in place of the streams; others (a prompt, a test) may have put theirs there since the last job."""
    for name, kind in (("stdout", "out"), ("stderr", "err")):
        if not isinstance(getattr(sys, name), _Routed):
            setattr(sys, name, _Routed(getattr(sys, name), kind))


def _unroute() -> None:
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), _Routed):
            setattr(sys, name, stream.stream)


@contextmanager
def _output_to(client: _Client, job: Job) -> Iterator[None]:
    """Send the client what its job prints, and the log records of its own thread and of the pools that work for it."""
    thread, root = threading.get_ident(), logging.getLogger("tiararodney")

    def is_its(record: logging.LogRecord) -> bool:
        pooled = not (record.threadName or "").startswith(("MainThread", "sekft-"))
        return record.thread == thread or (job.state == "running" and pooled)

    stream = SimpleNamespace(write=lambda text: client.tell(err=text), flush=lambda: None)
    handler = logging.StreamHandler(cast("IO[str]", stream))
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(is_its)
    _route()
    _clients[thread] = client
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        del _clients[thread]
