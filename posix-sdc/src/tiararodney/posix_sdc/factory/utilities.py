"""Invented utilities: small programs whose commands and options are known from their own documentation only."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.leads import Lead
from tiararodney.posix_sdc.factory.vocabulary import PEOPLE
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

BIN = "/usr/local/bin"
_MAN = "/usr/local/share/man"
_DOCUMENTED = {"help": 5, "man": 3, "usage": 3}
# Options that are accepted and change nothing that a checker looks at.
_SPARE = ("--quiet", "--no-colour", "--strict", "--utc", "--plain", "--no-wait")

_UNUSED = ("ignored", "unused", "no effect", "obsolete", "reserved")

# How a directive speaks of a utility: by its name with the way to its documentation, by its name, or by its trade.
_NAMED = {"documented": 4, "named": 4, "unnamed": 3}


@dataclass(frozen=True)
class Utility:
    """An invented program and the leads to its usage.

    Args:
        name: what a user types.
        files: the program and its manual page.
        mention: what a directive calls it.
        learn: what shows its name and its usage, step by step.
    """

    name: str
    files: tuple[Fixture, ...]
    mention: str
    learn: tuple[Lead, ...]


def utility(
    draw: Draw,
    name: str,
    trade: str,
    rows: Sequence[tuple[str, str]],
    body: str,
    words: Sequence[str],
    notes: Sequence[str] = (),
) -> Utility:
    """Write a utility with its documentation.

    Args:
        draw: source of choices.
        name: what a user types.
        trade: what it is for, such as ``sealing files``.
        rows: documented arguments and what they do.
        body: what it does with its arguments, in sh; ``wrong`` ends it with a pointer to the documentation.
        words: verbs and options that a call needs; all of them are in the documentation.
        notes: what a user has to know besides.
    """
    documentation = draw.weighted(_DOCUMENTED)
    way = {"help": f"{name} --help", "man": f"man {name}", "usage": name}[documentation]
    page = _page(draw, name, trade, rows, notes, manual=documentation == "man")
    shown = {"help": "--help | -h", "man": "", "usage": "''"}[documentation]
    lines = ["#!/bin/sh", f'wrong() {{ echo "{name}: ${{1:-not understood}}; see {way}" >&2; exit 2; }}']
    if shown:
        lines += ['case "${1-}" in', f"  {shown}) cat <<'END'", page.rstrip("\n"), "END", "    exit ;;", "esac"]
    files = [Fixture(f"{BIN}/{name}", "\n".join([*lines, body.strip("\n")]) + "\n", mode="755", owner="root")]
    if documentation == "man":
        files.append(Fixture(f"{_MAN}/{name}.txt", page, owner="root"))
    how = draw.weighted(_NAMED)
    mention = {
        "documented": _documented(draw, name, way),
        "named": name,
        "unnamed": draw.phrase(
            f"(the|this host's|our|a) (program|utility|tool|command) for {trade} "
            f"(\\(it is in|\\(look in|\\(installed under|\\(one of|\\(see|\\(in) {BIN}\\)"
        ),
    }[how]
    learn = []
    if how == "unnamed":
        learn.append(Lead((f"ls {BIN}", f"ls -1 {BIN}", f"ls -l {BIN}"), (name,)))
    if how != "documented" and documentation == "man":
        learn.append(Lead((f"{name} --help", name), (way,)))
    learn.append(Lead((way,), (*words, *notes)))
    return Utility(name, tuple(files), mention, tuple(learn))


def _documented(draw: Draw, name: str, way: str) -> str:
    if way == name:
        return draw.phrase(
            f"{name} \\((see its usage|called bare, it explains itself|usage: call it bare|"
            "run alone, it says how|no arguments: usage)\\)"
        )
    return draw.phrase(f"{name} \\((|see |documentation: |explained by |usage: |help: ){way}\\)")


def _page(
    draw: Draw, name: str, trade: str, rows: Sequence[tuple[str, str]], notes: Sequence[str], *, manual: bool
) -> str:
    """Write the documentation, which mostly covers more than one call needs."""
    rows = list(rows)
    for option in draw.rng.sample(_SPARE, draw.number(0, 3)):
        rows.append((option, draw.pick(_UNUSED)))
    width = max(len(call) for call, _ in rows) + 2
    table = [f"{name} {call:<{width}}{what}" for call, what in rows]
    remarks = [
        f"(Exit status|Returns|Status): 0(, {draw.number(2, 9)}| or {draw.number(2, 9)}).",
        f"(Maintainer|Author|Contact|Questions): {draw.pick(PEOPLE)}.",
        f"(Version|Release) {draw.number(1, 6)}.{draw.number(0, 19)}.",
    ]
    said = [*notes, *map(draw.phrase, draw.rng.sample(remarks, draw.number(0, 3)))]
    if manual:
        parts = ["NAME", f"    {name} - {trade}", "", "USAGE", *(f"    {row}" for row in table)]
        parts += ["", draw.pick(("NOTES", "REMARKS", "DESCRIPTION")), *(f"    {line}" for line in said)] if said else []
    else:
        head = draw.phrase(f"({name}: {trade}|{name}, for {trade}|{name} - {trade})")
        parts = [head, *(f"  {row}" for row in table), *said]
    return "\n".join(parts) + "\n"


def arguments(options: Sequence[tuple[str, str]], files: Sequence[str]) -> str:
    """Return sh that parses options with a value, in any position, and files, each into a variable.

    Args:
        options: each option with its variable.
        files: variables of the other arguments, in their order.
    """
    cases = [f"  {shlex.quote(option)}) [ $# -gt 1 ] || wrong; {name}=$2; shift 2 ;;" for option, name in options]
    spare = " | ".join(_SPARE)
    rest = "".join(f'{"el" if i else ""}if [ -z "${name}" ]; then {name}=$1; ' for i, name in enumerate(files))
    taken = f"{rest}else wrong; fi; shift" if files else "wrong"
    names = [name for _, name in options] + list(files)
    return "\n".join(
        [
            "; ".join(f"{name}=''" for name in names),
            'while [ $# -gt 0 ]; do case "$1" in',
            *cases,
            f"  {spare}) shift ;;",
            "  -?*) wrong ;;",
            f"  *) {taken} ;;",
            "esac; done",
        ]
    )


def readable(name: str, variable: str) -> str:
    """Return sh that ends a utility where its input cannot be read."""
    return (
        f'[ -r "${variable}" ] && [ -f "${variable}" ] || '
        f'{{ echo "{name}: cannot read ${{{variable}:-its input}}" >&2; exit 3; }}'
    )
