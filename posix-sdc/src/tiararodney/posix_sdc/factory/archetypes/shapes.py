"""Shapes of work that several families share: edit one file in place, or write one file about others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import Check, Source, Work, untouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.records.schema import Fixture


def edit(
    text: str,
    file: Fixture,
    after: Check,
    command: str,
    *,
    near_misses: Sequence[str],
    verify: tuple[str, ...],
    ways: Sequence[str] = (),
) -> Work:
    """Return work that edits a file with one command, see `Work`; `after` checks the edited file."""
    near, other = _each(near_misses), _each(ways)
    return Work(text, (command,), (after,), (file,), (file.path,), (), near, verify, ways=other)


def report(
    text: str,
    files: Sequence[Fixture],
    out: str,
    written: Check,
    command: str,
    *,
    near_misses: Sequence[str],
    ways: Sequence[str] = (),
    result: Source | None = None,
) -> Work:
    """Return work that reads a file, or all files of a folder, and writes `out`, see `Work`; `written` checks that."""
    checks, about = (written, *map(untouched, files)), files[0].path.partition("/")[0]
    near, other = _each(near_misses), _each(ways)
    return Work(
        text, (command,), checks, tuple(files), (about,), (out,), near, (f"cat {out}",), ways=other, result=result
    )


def _each(commands: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((command,) for command in commands)
