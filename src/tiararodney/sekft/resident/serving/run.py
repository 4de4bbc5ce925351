"""Runs the application beside the resident's jobs: uvicorn in a thread of its own."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

log = logging.getLogger(__name__)

START_SECONDS = 10.0
STOP_SECONDS = 5.0


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[HOST]:PORT``; port 0 takes a free one.

    Raises:
        UsageError: it has another form.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the last port
        raise UsageError(f"--serve: found {text!r}, expected HOST:PORT such as 127.0.0.1:8000.")
    return host, int(port)


def check_exposure(host: str, api_key: str, variable: str) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        UsageError: the host is not this machine's loopback and there is no key.
    """
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not api_key:
        raise UsageError(
            f"--serve {host}: other machines can reach it, and there is no key. Set {variable}, or serve 127.0.0.1."
        )


def server_key(variable: str) -> str:
    """Return the key that clients have to send, empty where the variable is not set."""
    return os.environ.get(variable, "")


@contextmanager
def serving(app: Starlette, host: str, port: int) -> Iterator[str]:
    """Serve until the block is left.

    Args:
        app: the application.
        host: address to bind.
        port: its port, 0 for a free one.

    Yields:
        The URL with its version, ``http://127.0.0.1:8000/v1``.

    Raises:
        RunFailed: the address cannot be bound.
    """
    import uvicorn

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, lifespan="off")
    config.timeout_graceful_shutdown = int(STOP_SECONDS)
    try:
        sockets = [config.bind_socket()]
    except (OSError, SystemExit) as error:
        raise RunFailed(f"--serve {host}:{port}: cannot bind it ({error}). Is another server there?") from None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=(sockets,), name="sekft-server", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RunFailed(f"--serve {host}:{port}: the server did not start.")
        time.sleep(0.01)
    bound = sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound}/v1"
    log.info("serving %s", url)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS + 1)
