"""What a provider says of itself: from one line to several pages, most of which is of no use here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.vocabulary import PEOPLE, Draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.taxonomy import ProviderKind


@dataclass(frozen=True)
class Design:
    """What was drawn for one provider before its files are written.

    Args:
        name: of the program.
        kind: what sort of program it is.
        documentation: ``help``, ``man`` or ``usage``.
        depth: see `taxonomy.DEPTHS`.
        calls: abstract step to the arguments that take it, ``{id}`` for an entry's.
        rows: documented arguments and what they do.
        notes: what a user has to know besides.
        blurb: what it calls itself.
        admin: verbs that are not for the session's user.
        idle: options that are taken and change nothing.
    """

    name: str
    kind: ProviderKind
    documentation: str
    depth: str
    calls: dict[str, str]
    rows: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    blurb: str
    admin: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        """The command that prints the documentation."""
        return {"help": f"{self.name} --help", "man": f"man {self.name}", "usage": self.name}[self.documentation]

    @property
    def share(self) -> str:
        """Where its data lie."""
        return f"/usr/local/share/{self.name}"


_GENERAL = {
    "ids": "Each {entry} has an id, which the list shows.",
    "paths": "Each {entry} is a plain file; cat shows it.",
    "next": "There is no list; the {entry} is printed whole.",
}


def page(draw: Draw, design: Design) -> str:
    """Write the documentation."""
    name, rows = design.name, design.rows
    if design.documentation == "usage" and design.depth == "line":
        usage = "".join(
            f"{'usage:' if not i else '      '} {name} {verb}  ({what})\n" for i, (verb, what) in enumerate(rows)
        )
        return usage + "".join(f"{note}\n" for note in design.notes)
    table = _table(name, rows)
    listing = design.kind.listing
    said = [_GENERAL[listing].format(entry=design.kind.entry)] if listing in _GENERAL else []
    said = said if design.depth != "line" or listing == "paths" else []
    said += design.notes
    if design.depth == "pages":
        return "\n".join(_pages(draw, design, said)) + "\n"
    if design.documentation == "man":
        head = [f"NAME\n    {name} - {design.blurb}", "SYNOPSIS", *(f"    {line}" for line in table)]
        if said:
            head += ["NOTES", *(f"    {note}" for note in said)]
    else:
        head = [f"{name}: {design.blurb}", *(f"  {line}" for line in table), *said]
    if design.depth == "long":
        head += _remarks(draw, design)
    return "\n".join(head) + "\n"


def _table(name: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(verb) for verb, _ in rows) + 2
    return [f"{name} {verb:<{width}}{what}" for verb, what in rows]


def _remarks(draw: Draw, design: Design) -> list[str]:
    """Return what long documentation says besides: true, and of no use here."""
    entry = design.kind.entry
    lines = [
        f"Exit status is 0, 1 for an unknown {entry}, 2 for wrong usage.",
        f"{design.name} was written by {draw.pick(PEOPLE)} and is kept by {draw.pick(PEOPLE)}.",
        f"No {entry} is ever changed once it is open.",
        f"Entries come in from {draw.noun()} every {draw.number(2, 59)} minutes.",
        f"FILES: {design.share}",
    ]
    draw.rng.shuffle(lines)
    return lines[: draw.number(3, 5)]


def _pages(draw: Draw, design: Design, said: Sequence[str]) -> list[str]:
    """Return pages in which the verbs that one needs stand among those that are not the user's.

    The rest, in any order, are options that nobody needs, files, history.
    """
    rows = [*design.rows, *((verb, f"{draw.pick(_CHORES)}; administrators only") for verb in design.admin)]
    draw.rng.shuffle(rows)
    a, entry, many = design.kind.article, design.kind.entry, design.kind.many
    sections: list[tuple[str, list[str]]] = [
        (
            "DESCRIPTION",
            [
                f"{design.name} keeps the {many} of this host and hands them out to accounts.",
                f"It reads its store at every call and never keeps {a} {entry} open between two of them.",
                f"{a.capitalize()} {entry} that came in later stands further down.",
                f"Names of {many} say nothing about what is in them.",
                f"Where two hosts share a store, the one called {draw.noun()} goes first.",
            ],
        ),
        ("OPTIONS", [line for option in design.idle for line in _option(draw, option)]),
        ("COMMANDS", [*_table(design.name, rows), *said]),
        (
            "STORE",
            [
                f"The store is a folder with one file for each {entry} and an index.",
                f"The index is read from top to bottom; what it does not name is no {entry}.",
                f"A store of version {draw.number(1, 3)} has no index and is taken as empty.",
                f"It is copied to {draw.noun()} every {draw.number(2, 23)} hours, but for what comes in meanwhile.",
                f"At most {draw.number(3, 9)} programs read it at a time; the next one waits.",
            ],
        ),
        (
            "DIAGNOSTICS",
            [
                f"which {entry}?",
                "    an id was expected and none was given",
                f"no {entry} N",
                "    the index does not name it, or its file is gone",
                "see ...",
                "    the call was not understood; the documentation says which ones are",
            ],
        ),
        (
            "LOCALE",
            [
                "Messages are in one language. Texts are printed as they came in, byte by byte.",
                f"Where the terminal cannot show a letter, it is the terminal of {draw.noun()} that is to be blamed.",
            ],
        ),
        ("FILES", [f"{design.share}", f"    the store of {many}", f"/etc/{design.name}.d", "    read if it is there"]),
        (
            "ENVIRONMENT",
            [
                f"{design.name.upper()}_WIDTH",
                "    columns of the terminal; taken from the terminal where it is not set",
                "NO_COLOUR",
                "    whether anything at all is printed in colour; it is not",
            ],
        ),
        (
            "EXIT STATUS",
            [
                "0   all is well",
                f"1   there is no such {entry}, or it may not be touched",
                "2   the call was wrong",
                f"{draw.number(60, 78)}  the store is being rebuilt",
            ],
        ),
        (
            "HISTORY",
            [
                f"{draw.pick(PEOPLE).capitalize()} wrote the first {design.name} for a machine named {draw.noun()}.",
                f"Version {draw.number(2, 4)} took the store apart into one file for each {entry}.",
                f"Since version {draw.number(5, 8)} the option {design.idle[0]} is understood and ignored.",
                f"{draw.pick(PEOPLE).capitalize()} keeps it now.",
            ],
        ),
        (
            "BUGS",
            [
                f"More than {draw.number(200, 900)} {many} at a time have never been tried.",
                f"Reports go to {draw.pick(PEOPLE)}, who reads them on {draw.pick(('Mondays', 'Fridays'))}.",
            ],
        ),
    ]
    first, *rest = sections
    draw.rng.shuffle(rest)
    pages = [line for title, lines in (first, *rest) for line in (title, *(f"    {x}" for x in lines), "")]
    return ["NAME", f"    {design.name} - {design.blurb}", "", *pages[:-1]]


_CHORES = (
    "put the store in order",
    "read a store of the old form",
    "copy the store elsewhere",
    "throw closed ones away",
    "look for holes in the numbering",
    "stop the intake for a while",
)


def _option(draw: Draw, option: str) -> list[str]:
    value = option.lstrip("-").partition("-")[0].upper()
    return [
        f"{option} {value}",
        "    "
        + draw.pick(
            (
                f"Kept for scripts of the host {draw.noun()}; changes nothing here.",
                f"How the list is laid out on paper; default {draw.number(2, 90)}.",
                "Understood for the sake of older versions.",
                f"Has an effect on terminals of the make {draw.noun()} only.",
            )
        ),
    ]
