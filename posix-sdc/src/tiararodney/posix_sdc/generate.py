"""Scenario bundles generated from a seed."""

from tiararodney.posix_sdc.factory.bundles import (
    GENERATOR_MODEL,
    GENERATOR_VERSION,
    archetypes_named,
    dumps,
    generate,
)

__all__ = [
    "GENERATOR_MODEL",
    "GENERATOR_VERSION",
    "archetypes_named",
    "dumps",
    "generate",
]
