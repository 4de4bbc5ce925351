"""Worlds in Docker containers."""

from tiararodney.posix_sdc.worlds.docker.runtime import (
    DockerWorld,
    connect,
    start,
    sweep,
    unusable,
)

__all__ = [
    "DockerWorld",
    "connect",
    "start",
    "sweep",
    "unusable",
]
