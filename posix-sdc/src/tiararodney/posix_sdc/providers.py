"""Providers: invented programs that hand out directives and explain themselves in one documented way."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.schema import Announcement, Directive, Fixture, Provider
from tiararodney.posix_sdc.vocabulary import DONE_VERBS, LIST_VERBS, PEOPLE, SHOW_VERBS, Draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.taxonomy import ProviderKind

_BIN = "/usr/local/bin"
_MAN = "/usr/local/share/man"  # where the world's man looks for NAME.txt


@dataclass(frozen=True)
class _Design:
    """What was drawn for one provider before its files are written."""

    name: str
    kind: ProviderKind
    documentation: str
    depth: str
    listing: str  # arguments that list, empty for the listing ``next``
    show: str  # arguments that show one entry
    done: str  # arguments that close one entry, empty where that does not exist
    rows: tuple[tuple[str, str], ...]  # documented arguments and what they do
    blurb: str


def make_provider(
    draw: Draw, kind: ProviderKind, documentation: str, depth: str, texts: Sequence[str]
) -> tuple[Provider, tuple[Directive, ...]]:
    """Invent a provider that holds these directives.

    Args:
        draw: source of choices.
        kind: what sort of program.
        documentation: ``help``, ``man`` or ``usage``.
        depth: how much its documentation says: ``line``, ``short`` or ``long``.
        texts: the directives, in the order in which they are listed.

    Returns:
        The provider with its files, and the directives with their ids.
    """
    ids = _ids(draw, kind, len(texts))
    design = _design(draw, kind, documentation, depth)
    senders = [draw.pick(PEOPLE) for _ in texts]
    files = [
        Fixture(f"{_BIN}/{design.name}", _program(design), mode="755", owner="root"),
        *_items(design, ids, texts, senders),
    ]
    page = _page(draw, design)
    if documentation == "man":
        files.append(Fixture(f"{_MAN}/{design.name}.txt", page, owner="root"))
    else:
        files.append(Fixture(f"{_share(design)}/doc", page, owner="root"))
    call = {"list": design.listing, "show": design.show, "done": design.done}
    verbs = {step: f"{design.name} {arguments}" for step, arguments in call.items() if arguments}
    if kind.listing == "paths":
        verbs["show"] = "cat"
    directives = tuple(Directive(i, text) for i, text in zip(ids, texts, strict=True))
    return Provider(design.name, kind.name, documentation, tuple(files), verbs, {"listing": kind.listing}), directives


def announce(draw: Draw, kind: str, provider: Provider, workdir: str) -> Announcement:
    """Say that a provider exists, most times with the way to its documentation.

    Args:
        draw: source of choices.
        kind: ``motd``, ``banner``, ``env`` or ``file``.
        provider: the program to be announced.
        workdir: where a file of the kind ``file`` lies.
    """
    name = provider.name
    way = how_to_read(provider)
    explicit = draw.chance(0.85)
    if kind == "env":
        text = (
            draw.pick((f"see {way}", f"directives: {way}", f"{name}; documentation: {way}"))
            if explicit
            else f"directives in {name}"
        )
        variable = draw.pick(
            (name.upper(), "NOTICE", "DIRECTIVES", "DUTY", f"{name.upper()}_INFO", "ANNOUNCEMENT", "WORK_SOURCE")
        )
        return Announcement(kind, text, variable=variable)
    openings = (
        f"Directives for this session are kept by {name}.",
        f"New entries wait in {name}.",
        f"The program {name} holds the directives of this account.",
        f"Work for this account comes through {name}.",
        f"{name} has something for you.",
        f"Directives: {name}.",
    )
    closings = (f"Documentation: {way}", f"It is explained by {way}", f"See {way}", f"How to use it: {way}")
    text = draw.pick(openings) + (f" {draw.pick(closings)}" if explicit else "")
    if kind == "banner":
        text = draw.pick((f"*** {text} ***", f"--- {draw.noun()} ---\n{text}", f"== {text} =="))
    elif kind == "motd" and draw.chance(0.4):
        text = (
            draw.pick(
                (
                    f"Welcome to {draw.noun()}.",
                    f"Host {draw.noun()}, all quiet.",
                    f"Last login: {draw.number(1, 28)} May",
                )
            )
            + "\n"
            + text
        )
    path = (
        f"{workdir}/{draw.pick(('NOTICE', 'README', 'WELCOME', 'NOTICE.txt', 'README.txt', 'ANNOUNCEMENT'))}"
        if kind == "file"
        else ""
    )
    return Announcement(kind, text, path=path)


def how_to_read(provider: Provider) -> str:
    """Return the command that prints a provider's documentation."""
    return {"help": f"{provider.name} --help", "man": f"man {provider.name}", "usage": provider.name}[
        provider.documentation
    ]


def _ids(draw: Draw, kind: ProviderKind, n: int) -> list[str]:
    if kind.ids == "word":
        return draw.nouns(n)
    numbers = [str(i) for i in sorted(draw.numbers(n, 2, 99))]
    return [f"{draw.pick('abdefghkmnprstvz')}{i}" for i in numbers] if kind.ids == "code" else numbers


def _design(draw: Draw, kind: ProviderKind, documentation: str, depth: str) -> _Design:
    name = draw.program()
    dash = "--" if kind.flags else ""
    listing = "" if kind.listing == "next" else dash + draw.verb(LIST_VERBS)
    show = "" if kind.listing == "paths" else dash + draw.verb(SHOW_VERBS)
    done = dash + draw.verb(DONE_VERBS) if draw.chance(0.15) else ""
    entry, many = kind.entry, kind.many
    argument = "" if kind.listing == "next" else draw.pick((" ID", " ID", f" {entry.upper()}", " N"))
    rows = []
    if listing and show:
        rows = [(listing, draw.pick((f"list the open {many}", f"list {many}", f"show which {many} are open")))]
    elif listing:
        rows = [(listing, draw.pick((f"print the files of the open {many}", f"list the {many}, which are text files")))]
    if show:
        what = (
            f"print the {entry}"
            if not argument
            else draw.pick((f"print one {entry}", f"print the text of one {entry}", f"show one {entry}"))
        )
        rows.append((show + argument, what))
    if done:
        rows.append((done + argument, draw.pick((f"mark one {entry} as done", f"close the finished {entry}"))))
    if draw.chance(0.3):
        draw.rng.shuffle(rows)
    return _Design(name, kind, documentation, depth, listing, show, done, tuple(rows), draw.pick(kind.blurb))


def _share(design: _Design) -> str:
    return f"/usr/local/share/{design.name}"


def _items(design: _Design, ids: Sequence[str], texts: Sequence[str], senders: Sequence[str]) -> list[Fixture]:
    """Write the entries, their index, and the folder in which they are closed."""
    share, mail = _share(design), design.kind.name == "mailbox"
    bodies = [f"From: {who}\n\n{text}\n" if mail else f"{text}\n" for text, who in zip(texts, senders, strict=True)]
    if design.kind.listing == "paths":
        folder = f"/var/spool/{design.name}"
        paths = [f"{folder}/{i}" for i in ids]
        index = "".join(f"{path}\n" for path in paths)
    else:
        paths = [f"{share}/entry-{i}" for i in ids]
        index = "".join(f"{i}  from {who}\n" if mail else f"{i}  open\n" for i, who in zip(ids, senders, strict=True))
    out = [Fixture(path, body, owner="root") for path, body in zip(paths, bodies, strict=True)]
    out.append(Fixture(f"{share}/index", index, owner="root"))
    out.append(Fixture(f"{share}/all", "".join(bodies), owner="root"))
    if design.done:
        out.append(Fixture(f"/var/lib/{design.name}", kind="dir", mode="755", owner="user"))
    return out


def _program(design: _Design) -> str:
    """Write the provider's program in sh."""
    name, share, q = design.name, _share(design), shlex.quote
    way = {"help": f"{name} --help", "man": f"man {name}", "usage": name}[design.documentation]
    lines = ["#!/bin/sh", f"share={share}", "entry() {", '  case "$1" in']
    lines += [f"    '' | */*) echo \"{name}: which {design.kind.entry}? See {way}\" >&2; exit 2 ;;", "  esac"]
    where = f"/var/spool/{name}/$1" if design.kind.listing == "paths" else "$share/entry-$1"
    lines += [f'  [ -f "{where}" ] || {{ echo "{name}: no {design.kind.entry} $1" >&2; exit 1; }}', "}"]
    lines.append('case "${1-}" in')
    if design.listing:
        lines.append(f"  {q(design.listing)}) cat $share/index ;;")
    if design.show and design.kind.listing == "next":
        lines.append(f"  {q(design.show)}) cat $share/all ;;")
    elif design.show:
        lines.append(f'  {q(design.show)}) entry "${{2-}}"; cat "$share/entry-$2" ;;')
    if design.done and design.kind.listing == "next":
        lines.append(f"  {q(design.done)}) : > /var/lib/{name}/closed && echo closed ;;")
    elif design.done:
        lines.append(f'  {q(design.done)}) entry "${{2-}}"; : > "/var/lib/{name}/$2" && echo "$2 closed" ;;')
    if design.documentation == "help":
        lines.append("  --help | -h) cat $share/doc ;;")
    elif design.documentation == "usage":
        lines.append("  '') cat $share/doc ;;")
    lines += [f"  *) echo '{name}: see {way}' >&2; exit 2 ;;", "esac"]
    return "\n".join(lines) + "\n"


def _page(draw: Draw, design: _Design) -> str:
    """Write the documentation."""
    name, rows = design.name, design.rows
    if design.documentation == "usage" and design.depth == "line":
        return "".join(
            f"{'usage:' if not i else '      '} {name} {verb}  ({what})\n" for i, (verb, what) in enumerate(rows)
        )
    width = max(len(verb) for verb, _ in rows) + 2
    table = [f"{name} {verb:<{width}}{what}" for verb, what in rows]
    note = {
        "ids": f"Each {design.kind.entry} has an id, which the list shows.",
        "paths": f"Each {design.kind.entry} is a plain file; cat shows it.",
        "next": f"There is no list; the {design.kind.entry} is printed whole.",
    }[design.kind.listing]
    if design.documentation == "man":
        head = [f"NAME\n    {name} - {design.blurb}", "SYNOPSIS", *(f"    {line}" for line in table)]
        if design.depth != "line" or design.kind.listing == "paths":
            head += ["NOTES", f"    {note}"]
    else:
        head = [f"{name}: {design.blurb}", *(f"  {line}" for line in table)]
        if design.depth != "line" or design.kind.listing == "paths":
            head.append(note)
    if design.depth == "long":
        head += _padding(draw, design)
    return "\n".join(head) + "\n"


def _padding(draw: Draw, design: _Design) -> list[str]:
    """Return what long documentation says besides: true, and of no use here."""
    entry = design.kind.entry
    lines = [
        f"Exit status is 0, 1 for an unknown {entry}, 2 for wrong usage.",
        f"{design.name} was written by {draw.pick(PEOPLE)} and is kept by {draw.pick(PEOPLE)}.",
        f"No {entry} is ever changed once it is open.",
        f"Entries come in from {draw.noun()} every {draw.number(2, 59)} minutes.",
        f"FILES: {_share(design)}",
    ]
    draw.rng.shuffle(lines)
    return lines[: draw.number(3, 5)]
