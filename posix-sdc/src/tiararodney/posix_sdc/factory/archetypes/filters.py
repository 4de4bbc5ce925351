"""The many archetypes that read one file and write another, as a table: what differs between them is data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Form,
    Request,
    Source,
    Unsuitable,
    Work,
    check_by_form,
    holds,
    number_in,
    other_results,
    source_untouched,
    text_file,
)
from tiararodney.posix_sdc.factory.vocabulary import Draw

Lines = list[str]
Values = Mapping[str, Any]
Suits = Callable[[Draw, Sequence[str]], Values | None]


def _no_lines_but_its_own(draw: Draw, lines: Sequence[str]) -> None:  # noqa: ARG001 - the signature of `suits`
    return None


@dataclass(frozen=True)
class Filter:
    """One input, one output. In all texts ``{source}``, ``{out}`` and the parameters' names stand for values.

    Args:
        wordings: of the directive, the plainest first.
        commands: that do it, each by itself; the first is the usual one.
        near_misses: commands that nearly do it.
        own: draws the lines of a fresh input, with the parameters.
        result: the output's lines, from the input's lines and the parameters.
        suits: draws parameters for lines that a former step made; None where those lines do not suit.
        reads: extensions of the input.
        writes: extensions of the output.
        check: of the output's lines, from its path and these.
        verify: what a careful person ends with.
        passes_on: the output is text that a later step can take up.
        open_ended: the output's lines where the input has no newline at its end, if that makes a difference.
    """

    wordings: tuple[str, ...]
    commands: tuple[str, ...]
    near_misses: tuple[str, ...]
    own: Callable[[Draw], tuple[Lines, Values]]
    result: Callable[[Sequence[str], Values], Lines]
    suits: Suits = _no_lines_but_its_own
    reads: tuple[str, ...] = ("txt", "list")
    writes: tuple[str, ...] = ("txt", "out")
    check: Callable[[str, Sequence[str]], Check] = holds
    verify: tuple[str, ...] = ("cat {out}",)
    passes_on: bool = True
    open_ended: Callable[[Sequence[str], Values], Lines] | None = None


def follows(table: Filter) -> bool:
    """Return whether a filter can begin with what a former step made."""
    return table.suits is not _no_lines_but_its_own


def author(table: Filter) -> Author:
    """Return the author of one row of a table."""

    def write(request: Request) -> Work:
        d, given = request.draw, request.source
        if given is None:
            source, out = d.file(*table.reads), d.file(*table.writes)
            lines, values = table.own(d)
        else:
            source, lines = given.path, list(given.lines)
            fitting = table.suits(d, lines)
            if fitting is None:
                raise Unsuitable
            values, out = fitting, d.file(*table.writes)
        names = {**values, "source": source, "out": out}
        text = d.wording(table.wordings).format(**names)
        wanted = table.result(lines, values)
        file = text_file(source, lines)

        def of(form: Form) -> Lines:
            result = table.result if form.ended or table.open_ended is None else table.open_ended
            return result(form.lines, values)

        check = check_by_form(given, table.check(out, wanted), lambda form: table.check(out, of(form)))

        def filled(templates: Sequence[str]) -> tuple[str, ...]:
            return tuple(t.format(**names) for t in templates)

        usual, *others = filled(table.commands)
        return Work(
            text,
            (usual,),
            (check, source_untouched(given, file)),
            () if given else (file,),
            (source,),
            (out,),
            tuple((command,) for command in filled(table.near_misses)),
            filled(table.verify),
            ways=tuple((command,) for command in others),
            result=Source(out, tuple(wanted), others=other_results(given, wanted, of)) if table.passes_on else None,
        )

    return write


def one_number(path: str, lines: Sequence[str]) -> Check:
    """Return a check that a file holds the number of one line."""
    return number_in(path, int(lines[0]))
