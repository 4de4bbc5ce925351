"""Worlds in containers of a Docker engine or a podman socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError

if TYPE_CHECKING:
    from tiararodney.posix_sdc.schema import Scenario
    from tiararodney.posix_sdc.world import Limits, World


def unusable() -> str | None:
    """Say why no engine can be used here; None when one can."""
    return "not written yet"


def start(scenario: Scenario, limits: Limits) -> World:
    """Stand a scenario up in a container."""
    raise InfrastructureError(f"no docker runtime yet for {scenario.id!r} {limits}")


def sweep() -> int:
    """Remove containers whose owner is gone."""
    return 0
