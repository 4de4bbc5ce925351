"""The container engine that answers here: Docker's, or a podman socket."""

from __future__ import annotations

import contextlib
import functools
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
    """Return what an engine's failure looks like."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return (DockerException, RequestException, OSError)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn the engine's failures into ours."""
    from docker.errors import ImageNotFound

    try:
        yield
    except ImageNotFound:
        raise InfrastructureError(f"the image {IMAGE} is missing. Build it: posix-sdc image.") from None
    except _failures() as error:
        raise InfrastructureError(f"{what}: {str(error)[:500]}") from None


def _address() -> str | None:
    """Return the engine's address where the default one is not it: a podman socket."""
    if os.environ.get("DOCKER_HOST") or _SOCKET.exists():
        return None
    for path in (
        Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "podman/podman.sock"),
        Path("/run/podman/podman.sock"),
    ):
        if path.exists():
            return f"unix://{path}"
    return None


@functools.cache
def version() -> str:
    """Return the API version that the engine speaks, asked once."""
    import docker

    with guarded("no container engine answers"):
        client = docker.from_env(timeout=10, environment=_environment())
        return str(client.api.api_version)


def _environment() -> dict[str, str]:
    address = _address()
    return {**os.environ, "DOCKER_HOST": address} if address else dict(os.environ)


def connect(seconds: float = _SECONDS) -> docker.DockerClient:
    """Return a client of the engine; each user takes its own.

    Args:
        seconds: that one call may take.

    Raises:
        InfrastructureError: no engine answers.
    """
    import docker

    spoken = version()
    with guarded("no container engine answers"):
        return docker.from_env(version=spoken, timeout=seconds, environment=_environment())


def addressed() -> bool:
    """Tell whether there is an engine's address at all, which costs nothing to find out."""
    return find_spec("docker") is not None and bool(os.environ.get("DOCKER_HOST") or _address() or _SOCKET.exists())


def unusable() -> str | None:
    """Say why no engine can be used here, with the remedy; None when one can."""
    try:
        client = connect()
        with guarded("no container engine answers"):
            try:
                client.images.get(IMAGE)
            finally:
                client.close()
    except InfrastructureError as error:
        version.cache_clear()
        return str(error) if "posix-sdc image" in str(error) else f"{error}. Start one, or set DOCKER_HOST."
    return None
