"""Worlds that sessions are played in."""

from tiararodney.posix_sdc.worlds.protocol import (
    RUNTIMES,
    CommandResult,
    Limits,
    Verdict,
    World,
    abort_worlds,
    close_worlds,
    open_world,
    resolve_runtime,
    sweep,
)

__all__ = [
    "RUNTIMES",
    "CommandResult",
    "Limits",
    "Verdict",
    "World",
    "abort_worlds",
    "close_worlds",
    "open_world",
    "resolve_runtime",
    "sweep",
]
