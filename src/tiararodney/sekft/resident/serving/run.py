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

STOP_SECONDS = 5  # for replies under way to end


def read_address(text: str, key_variable: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[HOST]:PORT``; port 0 takes a free one.

    Raises:
        UsageError: it has another form, or other machines could reach it and the variable holds no key.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the last port
        raise UsageError(f"--serve: found {text!r}, expected HOST:PORT such as 127.0.0.1:8000.")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not os.environ.get(key_variable):
        raise UsageError(
            f"--serve {host}: other machines can reach it, and there is no key. Set {key_variable}, or serve 127.0.0.1."
        )
    return host, int(port)


@contextmanager
def serving(app: Starlette, host: str, port: int) -> Iterator[str]:
    """Serve until the block is left; yield the URL with its version, ``http://127.0.0.1:8000/v1``.

    Raises:
        RunFailed: the address cannot be bound, or the server does not start.
    """
    import uvicorn

    config = uvicorn.Config(
        app, host, port, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=STOP_SECONDS
    )
    try:
        listener = config.bind_socket()
    except (OSError, SystemExit) as error:
        raise RunFailed(f"--serve {host}:{port}: cannot bind it ({error}). Is another server there?") from None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="sekft-server", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            listener.close()
            raise RunFailed(f"--serve {host}:{port}: the server did not start.")
        time.sleep(0.01)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/v1"
    log.info("serving %s", url)
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS + 1)
