"""A world: a scenario in isolation, with one shell and a checker that judges its state.

Two runtimes stand behind one protocol: ``docker`` (any engine or podman socket) and ``bwrap`` (no daemon, no image).
"""

from __future__ import annotations

import functools
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tiararodney.posix_sdc.errors import InfrastructureError, NoRuntime, UsageError
from tiararodney.posix_sdc.worlds.shell import CommandResult
from tiararodney.posix_sdc.worlds.supervisor import Limits
from tiararodney.posix_sdc.worlds.verdict import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.posix_sdc.records.schema import Scenario

__all__ = [
    "RUNTIMES",
    "Check",
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

RUNTIMES = ("auto", "docker", "bwrap")
_log = logging.getLogger(__name__)

# The open worlds of this process; a world is closed only once it is no longer among them.
_open: set[World] = set()
_answered: set[str] = set()  # runtimes that could be used before, by the name that was asked for
_lock = threading.Lock()
_aborted = threading.Event()


class World(Protocol):
    """A scenario's running world. Used by one thread at a time."""

    runtime: str

    def run(self, command: str) -> CommandResult:
        """Run one command in the session's shell.

        Raises:
            InfrastructureError: the runtime failed.
        """

    def check(self) -> Verdict:
        """End the session with everything it started, then run the checker. Once per world.

        Raises:
            InfrastructureError: the runtime failed.
        """

    def close(self) -> None:
        """Remove the world. Harmless when it is gone already."""

    def abort(self) -> None:
        """End everything in it, from any thread: the one that uses it gets an InfrastructureError, and closes it."""


@contextmanager
def open_world(scenario: Scenario, runtime: str = "auto", limits: Limits | None = None) -> Iterator[World]:
    """Open a scenario's world, and remove it at the end whatever happens.

    Args:
        scenario: the bundle.
        runtime: ``docker``, ``bwrap``, or ``auto`` for docker where an engine answers, else bwrap.
        limits: what the world may use.

    Yields:
        The world, its shell ready in the scenario's `workdir`.

    Raises:
        NoRuntime: the runtime cannot be used on this machine.
        SchemaError: the scenario cannot be stood up.
        InfrastructureError: the runtime failed, or could be used before and does not answer any more.
    """
    try:
        name = resolve_runtime(runtime)
    except NoRuntime as error:
        if runtime in _answered:
            raise InfrastructureError(str(error)) from error
        raise
    world = _start(name, scenario, limits or Limits())
    try:
        with _lock:
            _open.add(world)
            if _aborted.is_set():
                world.abort()
        yield world
    finally:
        _end(world)


def _end(world: World) -> None:
    with _lock:
        _open.discard(world)
    world.close()


def abort_worlds() -> None:
    """End every world of this process and open no other, until `close_worlds`. For the end of an interrupted run."""
    _aborted.set()
    with _lock:
        for world in _open:
            world.abort()


def close_worlds() -> None:
    """Remove the remaining worlds after their users have had time to end them; then new ones may open."""
    with _lock:
        left = list(_open)
    for world in left:
        try:
            _end(world)
        except InfrastructureError as error:
            _log.debug("closing: %s", error)
    _aborted.clear()


def _start(runtime: str, scenario: Scenario, limits: Limits) -> World:
    if _aborted.is_set():
        raise InfrastructureError("the run is being stopped")
    if runtime == "docker":
        from tiararodney.posix_sdc.worlds.docker import runtime as docker

        return docker.start(scenario, limits)
    from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap

    return bwrap.start(scenario, limits)


def resolve_runtime(name: str = "auto") -> str:
    """Return the runtime to use, ``docker`` or ``bwrap``.

    Args:
        name: ``docker``, ``bwrap`` or ``auto``.

    Raises:
        NoRuntime: it cannot be used here; the message says why and what to do.
        UsageError: there is no runtime of that name.
    """
    if name not in RUNTIMES:
        raise UsageError(f"found runtime {name!r}, expected one of {', '.join(RUNTIMES)}.")
    reasons: list[str] = []
    for runtime in RUNTIMES[1:] if name == "auto" else (name,):
        reason = _unusable(runtime)
        if reason is None:
            _answered.update((name, runtime))
            _sweep_once()
            if name == "auto":
                _log.info("runtime: %s%s", runtime, f" ({reasons[0]})" if reasons else "")
            return runtime
        reasons.append(f"{runtime}: {reason}")
    raise NoRuntime("found no usable runtime for worlds.\n  " + "\n  ".join(reasons))


def _unusable(runtime: str) -> str | None:
    """Say why a runtime cannot be used here, with the remedy; None when it can."""
    if runtime == "docker":
        from tiararodney.posix_sdc.worlds.docker import engine

        return engine.unusable()
    from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap

    return bwrap.unusable()


@functools.cache
def _sweep_once() -> None:
    """Remove leftovers of either runtime before this process opens its first world."""
    sweep()


def sweep() -> int:
    """Remove leftovers of killed runs on this machine; return the number of worlds.

    Worlds whose process lives are left alone. Quiet where a runtime is missing.
    """
    removed = 0
    for runtime in RUNTIMES[1:]:
        try:
            if runtime == "docker":
                from tiararodney.posix_sdc.worlds.docker import runtime as docker

                removed += docker.sweep()
            else:
                from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap

                removed += bwrap.sweep()
        except InfrastructureError as error:
            _log.debug("sweep: %s", error)
    return removed
