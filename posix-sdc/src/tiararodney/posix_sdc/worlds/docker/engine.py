"""The container engines that worlds are made in: Docker's, or a podman socket.

``DOCKER_HOST`` may name several, with commas between: worlds are made in each in turn.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker

IMAGE = "tiararodney/posix-sdc-world:1"
_SOCKET = Path("/var/run/docker.sock")
_SECONDS = 120  # for a call that makes a container


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that an engine raises."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return (DockerException, RequestException, OSError)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Convert the engine's exceptions into ours."""
    from docker.errors import ImageNotFound

    try:
        yield
    except ImageNotFound:
        raise InfrastructureError(f"the image {IMAGE} is missing. Build it: posix-sdc image.") from None
    except _failures() as error:
        raise InfrastructureError(f"{what}: {str(error)[:500]}") from None


_turn = itertools.count()


def hosts() -> tuple[str, ...]:
    """Return the engines' addresses; an empty one stands for Docker's own default."""
    named = tuple(host.strip() for host in os.environ.get("DOCKER_HOST", "").split(",") if host.strip())
    if named or _SOCKET.exists():
        return named or ("",)
    for path in (
        Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "podman/podman.sock"),
        Path("/run/podman/podman.sock"),
    ):
        if path.exists():
            return (f"unix://{path}",)
    return ("",)


@functools.cache
def version(host: str) -> str:
    """Return the API version that an engine speaks, asked once."""
    import docker

    with guarded("no container engine answers"):
        client = docker.from_env(timeout=10, environment=_environment(host))
        return str(client.api.api_version)


def _environment(host: str) -> dict[str, str]:
    return {**os.environ, "DOCKER_HOST": host} if host else dict(os.environ)


def connect(seconds: float = _SECONDS, host: str | None = None) -> docker.DockerClient:
    """Return a client of an engine; each user takes its own.

    Args:
        seconds: that one call may take.
        host: one of `hosts`; None for the one whose turn it is.

    Raises:
        InfrastructureError: it does not answer.
    """
    import docker

    if host is None:
        there = hosts()
        host = there[next(_turn) % len(there)]
    spoken = version(host)
    with guarded("no container engine answers"):
        return docker.from_env(version=spoken, timeout=seconds, environment=_environment(host))


def addressed() -> bool:
    """Return whether an engine's address is configured, without connecting."""
    return find_spec("docker") is not None and (hosts() != ("",) or _SOCKET.exists())


def unusable() -> str | None:
    """Say why an engine cannot be used here, with the remedy; None when all can."""
    for host in hosts():
        try:
            client = connect(host=host)
            with guarded("no container engine answers"):
                try:
                    client.images.get(IMAGE)
                finally:
                    client.close()
        except InfrastructureError as error:
            version.cache_clear()
            where = f"{host}: " if len(hosts()) > 1 else ""
            remedy = "" if "posix-sdc image" in str(error) else ". Start one, or set DOCKER_HOST."
            return f"{where}{error}{remedy}"
    return None
