"""What an archetype's author hands over, and the conditions that checkers are made of."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.leads import Lead
    from tiararodney.posix_sdc.factory.vocabulary import Draw


class Unsuitable(Exception):
    """The author can make nothing of the input that it was given."""


@dataclass(frozen=True)
class Source:
    """A file that comes into being before this piece of work begins.

    Args:
        path: relative to the working directory.
        lines: what it will hold.
    """

    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """One piece of work with everything that proves it done.

    Args:
        text: the directive.
        solution: commands that do it, one an entry.
        checks: lines of `/bin/sh` that all must succeed in the working directory.
        fixtures: files it starts from, paths relative to the working directory.
        inputs: files among the fixtures that the directive names and that have to be there.
        outputs: files that come into being by the work.
        near_misses: commands that nearly do it; the checker fails on each.
        verify: commands that a careful person ends with.
        reason: why a failing program cannot be used, for the block ``failing``; empty where nothing fails.
        ways: other commands that do the same, each as good as `solution` and of its length.
        result: the file of lines that a later piece of work can begin with; None where there is none.
        spoils: fixtures that the work rightly changes before a failing program shows.
        guards: lines of `/bin/sh` that must succeed where a failing program ended the work.
        learn: what shows the usage of an invented utility, before the solution can be known.
    """

    text: str
    solution: tuple[str, ...]
    checks: tuple[str, ...]
    fixtures: tuple[Fixture, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    near_misses: tuple[tuple[str, ...], ...] = ()
    verify: tuple[str, ...] = ()
    reason: str = ""
    ways: tuple[tuple[str, ...], ...] = ()
    result: Source | None = None
    spoils: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    learn: tuple[Lead, ...] = ()


@dataclass(frozen=True)
class Brief:
    """What the author is asked for.

    Args:
        draw: source of choices.
        failing: the program to be used has to fail (the block ``failing``).
        source: begin with this file instead of one of your own.
        warns: the program to be used complains and does its work all the same (the twin of ``failing``).
    """

    draw: Draw
    failing: bool = False
    source: Source | None = None
    warns: bool = False


Author = Callable[[Brief], Work]
q = shlex.quote


def text_file(path: str, lines: Sequence[str], mode: str = "644") -> Fixture:
    """Return a fixture of lines."""
    return Fixture(path=path, content="".join(f"{line}\n" for line in lines), mode=mode)


def holds(path: str, lines: Sequence[str] | str) -> str:
    """Return a check that a regular file holds exactly these lines; newlines at its end do not matter."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    return f'[ -f {q(path)} ] && [ "$(cat {q(path)})" = {q(text.rstrip(chr(10)))} ]'


def number_in(path: str, value: int) -> str:
    """Return a check that a file holds one number and nothing but blanks around it."""
    return f"[ -f {q(path)} ] && [ \"$(tr -d ' \\t\\n' < {q(path)})\" = {value} ]"


def absent(path: str) -> str:
    """Return a check that nothing has this name."""
    return f"[ ! -e {q(path)} ] && [ ! -L {q(path)} ]"


def unwritten(path: str) -> str:
    """Return a check that a result was not invented: the name is free, or an empty file a redirection left behind."""
    return f"[ ! -s {q(path)} ] || [ -d {q(path)} ]"


def mode_is(path: str, mode: str) -> str:
    """Return a check of a file's permission bits."""
    return f'[ "$(stat -c %a {q(path)})" = {mode} ]'


def untouched(fixture: Fixture) -> str:
    """Return a check that a file fixture is as it was."""
    if "\0" in fixture.content:  # which neither a script nor a shell's variable can hold
        digest = hashlib.sha256(fixture.content.encode()).hexdigest()
        return f'[ "$(sha256sum < {q(fixture.path)} 2>/dev/null)" = "{digest}  -" ]'
    return holds(fixture.path, fixture.content)


def word_lines(draw: Draw, low: int = 4, high: int = 8) -> list[str]:
    """Return lines of one noun and one number each."""
    return [f"{noun} {draw.number(1, 99)}" for noun in draw.nouns(draw.number(low, high))]
