"""The resident's socket: takes jobs from other terminals of the same user, streams what they print."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import shlex
import signal
import socket
import socketserver
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from tiararodney.sekft import residents
from tiararodney.sekft.console import FAILED
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.commands import run_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.sekft.resident.state import Job, Resident

log = logging.getLogger(__name__)

CLONE_FS = 0x200  # of sched.h: with it, a thread's working folder becomes its own
REQUEST_SECONDS = 5.0  # that a client may take to send its request
SEND_SECONDS = 30  # that a client may leave output unread


@contextmanager
def listening(resident: Resident, name: str) -> Iterator[None]:
    """Take jobs on a socket until the block is left; then jobs under way are cancelled, and their end is waited for.

    Raises:
        UsageError: a resident of that name runs.
    """
    residents.check_name(name)
    residents.residents()  # which removes what killed ones left
    with residents.address(name) as where:
        server = _Server(where, _Client, bind_and_activate=False)
        server.resident = resident
        try:
            server.server_bind()
        except OSError:
            server.server_close()
            raise UsageError(f"--name {name}: a resident of this name runs already. Give another name.") from None
        os.chmod(where, 0o600)  # noqa: PTH101 - through the folder's descriptor; nobody can connect before it listens
        server.server_activate()
    threading.Thread(target=server.serve_forever, args=(0.05,), name="sekft-listen", daemon=True).start()
    log.info("resident %s takes jobs: sekft-train ... --resident %s", name, name)
    try:
        yield
    finally:
        server.shutdown()
        server.ending = True
        (residents.socket_folder() / f"{name}{residents.SUFFIX}").unlink(missing_ok=True)
        for job in list(resident.jobs):
            job.cancelled = True
        server.server_close()


class _Server(socketserver.ThreadingUnixStreamServer):
    # Python waits for a job's thread at the end; a daemon is killed there, and inside torch that aborts the process.
    daemon_threads = False
    request_queue_size = 128  # socketserver's 5 turn away clients that start together
    ending = False  # jobs that come now do not begin
    resident: Resident

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's signature
        """Admit the resident's own user alone."""
        pid, uid = residents.peer(request)
        if uid != os.getuid():
            log.warning("refused process %d of user %d", pid, uid)
        return uid == os.getuid()


class _Client(socketserver.StreamRequestHandler):
    """A client, and its job, which runs in this thread."""

    timeout = REQUEST_SECONDS
    server: _Server

    def handle(self) -> None:
        """Carry out the job, and watch for the wish to cancel it; that the client goes away is one."""
        self._lock = threading.Lock()
        resident = self.server.resident
        self.tell(base=str(resident.base.path.resolve()))
        try:
            asked = json.loads(self.rfile.readline())
            words, cwd = [str(asked["command"]), *map(str, asked["args"])], str(asked["cwd"])
        except (OSError, ValueError, LookupError, TypeError):  # no request
            return
        self.connection.settimeout(None)
        # A client that reads nothing any more must not hold up the job, and with it the queue.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        job = resident.new_job(shlex.join(words), f"process {residents.peer(self.connection)[0]}")
        if self.server.ending:
            job.cancelled = True
        threading.current_thread().name = f"sekft-job-{job.number}"
        threading.Thread(target=self._watch, args=(job,), name="sekft-client", daemon=True).start()
        code = FAILED
        try:
            with _output_to(self, job):
                _enter(cwd)
                code = run_words(resident, job, words)
        except (RunFailed, UsageError) as error:  # the folder cannot be entered, or the base has changed
            code = error.exit_code
            self.tell(err=f"{error}\n")
        finally:
            self.tell(end=code)
            self._hang_up()
            if resident.changed or (resident.quitting and not self.server.ending):
                os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread from its prompt

    def _watch(self, job: Job) -> None:
        with suppress(OSError, ValueError):
            self.rfile.readline()  # {"cancel": true}, or nothing once the client is gone or the job has ended
        job.cancelled = True

    def tell(self, **message: Any) -> None:
        """Send a message; a client that is gone, or reads nothing for long, is sent nothing more."""
        with self._lock:
            try:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                self._hang_up()

    def write(self, text: str) -> None:
        """Take log records, as the stream of a handler."""
        self.tell(err=text)

    def _hang_up(self) -> None:
        """End `_watch`, which closing alone does not."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


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
        self._stream, self._kind = stream, kind

    def write(self, text: str) -> int:
        if (client := _clients.get(threading.get_ident())) is None:
            return self._stream.write(text)
        client.tell(**{self._kind: text})
        return len(text)

    def flush(self) -> None:
        if threading.get_ident() not in _clients:  # the resident's own stream is no client's concern
            self._stream.flush()

    def isatty(self) -> bool:
        return threading.get_ident() not in _clients and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_to(client: _Client, job: Job) -> Iterator[None]:
    """Send the client what its job prints, and the log records of its own thread and of the pools that work for it."""
    thread, root = threading.get_ident(), logging.getLogger("tiararodney")

    def is_its(record: logging.LogRecord) -> bool:
        pooled = not (record.threadName or "").startswith(("MainThread", "sekft-"))
        return record.thread == thread or (job.state == "running" and pooled)

    handler = logging.StreamHandler(cast("IO[str]", client))
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(is_its)
    for name, kind in (("stdout", "out"), ("stderr", "err")):
        if not isinstance(getattr(sys, name), _Routed):  # others (a prompt, a test) may have put theirs there
            setattr(sys, name, _Routed(getattr(sys, name), kind))
    _clients[thread] = client
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        del _clients[thread]
