"""The state of a session of another operator, for the operator that continues it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.posix_sdc.records.schema import Directive, Scenario


@dataclass(frozen=True)
class Standing:
    """The state of a session of another operator, as found in its world.

    Args:
        at: the working directory.
        previous: the one before it, empty where there was none.
        left: for each piece of work (see `works_of`) the commands that are still to be run; none where it is done.
        strays: paths that nobody asked for, relative to the place of the work; a folder ends in a slash.
    """

    at: str
    previous: str
    left: tuple[tuple[str, ...], ...]
    strays: tuple[str, ...] = ()


def works_of(scenario: Scenario) -> list[Mapping[str, Any]]:
    """Return the guides of a bundle's pieces of work, in order.

    A bundle of another generator counts as one piece.
    """
    works = [work for directive in scenario.directives for work in pieces(directive)]
    return works or [{"solution": scenario.reference_solution}]


def pieces(directive: Directive) -> list[Mapping[str, Any]]:
    """Return the guides of a directive's pieces of work."""
    works: list[Mapping[str, Any]] = directive.extra.get("works", [])
    # a teacher's bundle: one piece of work a directive
    return works or ([directive.extra] if "solution" in directive.extra else [])


def removal(strays: Sequence[str]) -> str:
    """Return the command that removes stray files."""
    folders = any(path.endswith("/") for path in strays)
    return shlex.join(("rm", *["-r"] * folders, *(path.rstrip("/") for path in strays)))
