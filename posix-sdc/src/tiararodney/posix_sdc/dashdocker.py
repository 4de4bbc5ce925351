"""Worlds in Docker containers."""

from tiararodney.posix_sdc.worlds.docker.engine import connect, unusable
from tiararodney.posix_sdc.worlds.docker.runtime import DockerWorld, start, sweep

__all__ = [
    "DockerWorld",
    "connect",
    "start",
    "sweep",
    "unusable",
]
