"""Providers: invented programs that hand out directives and explain themselves in one documented way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.providers.documentation import Design, page
from tiararodney.posix_sdc.factory.providers.programs import USER, Entry, Item, executables, stock
from tiararodney.posix_sdc.factory.vocabulary import (
    ADMIN_VERBS,
    BEGIN_VERBS,
    CLAIM_VERBS,
    DONE_VERBS,
    IDLE_OPTIONS,
    KEY_OPTIONS,
    LANE_VERBS,
    LIST_VERBS,
    PEOPLE,
    SHEET_OPTIONS,
    SHOW_VERBS,
    Draw,
)
from tiararodney.posix_sdc.records.schema import Directive, Fixture, Provider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.taxonomy import ProviderKind

_MAN = "/usr/local/share/man"  # where the world's man looks for NAME.txt


def make_provider(
    draw: Draw, kind: ProviderKind, documentation: str, depth: str, entries: Sequence[Entry]
) -> tuple[Provider, tuple[Directive, ...]]:
    """Invent a provider that holds these entries.

    Args:
        draw: source of choices.
        kind: what sort of program.
        documentation: ``help``, ``man`` or ``usage``.
        depth: how much its documentation says, see `taxonomy.DEPTHS`.
        entries: in the order in which they are listed.

    Returns:
        The provider with its files, and the directives (entries that are due) with their ids.
    """
    ids = _ids(draw, kind, len(entries))
    design = _design(draw, kind, documentation, depth, mixed=not all(e.due for e in entries))
    items = [Item(e, i, draw.pick(PEOPLE)) for e, i in zip(entries, ids, strict=True)]
    files = [*executables(design), *stock(design, items)]
    where = f"{_MAN}/{design.name}.txt" if documentation == "man" else f"{design.share}/doc"
    files.append(Fixture(where, page(draw, design), owner="root"))
    name = design.name
    verbs = {step: _call(name, arguments) for step, arguments in design.calls.items()}
    # What a reader must have seen of the documentation before the calls can be made.
    tells = [f"{name} {row.partition(' ')[0]}" for row, _ in design.rows]
    tells += [word for word in (design.calls.get("key", ""), design.calls.get("sheet", "")) if word]
    extra = {"listing": kind.listing, "depth": depth, "tells": tells}
    for no_call in ("key", "sheet", "other"):
        verbs.pop(no_call, None)
    directives = tuple(Directive(item.id, item.entry.text) for item in items if item.entry.due)
    return Provider(name, kind.name, documentation, tuple(files), verbs, extra), directives


def _call(name: str, arguments: str) -> str:
    if arguments == "cat {path}":
        return arguments
    before, pipe, after = arguments.rpartition("| ")
    return f"{before}{pipe}{name} {after}"


def _ids(draw: Draw, kind: ProviderKind, n: int) -> list[str]:
    if kind.ids == "word":
        return draw.nouns(n)
    numbers = [str(i) for i in sorted(draw.numbers(n, 2, 99))]
    return [f"{draw.pick('abdefghkmnprstvz')}{i}" for i in numbers] if kind.ids == "code" else numbers


# ---------------------------------------------------------------------------------------------------------- design


def _design(draw: Draw, kind: ProviderKind, documentation: str, depth: str, *, mixed: bool) -> Design:
    """Draw names, verbs and wordings.

    Args:
        draw: source of choices.
        kind: what sort of program.
        documentation: ``help``, ``man`` or ``usage``.
        depth: how much its documentation says.
        mixed: some of the entries are not to be done.
    """
    name = draw.program()
    dash = "--" if kind.flags else ""
    way = kind.listing
    listing = "" if way in ("next", "rules") else dash + draw.verb(LIST_VERBS)
    show = "" if way in ("paths", "rules") else dash + draw.verb(SHOW_VERBS)
    done = dash + draw.verb(DONE_VERBS) if draw.chance(0.15) else ""
    entry, many = kind.entry, kind.many
    argument = "" if way in ("next", "stdin") else draw.pick((" ID", " ID", f" {entry.upper()}", " N"))
    rows: list[tuple[str, str]] = []
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
    calls = {"list": listing} if listing else {}
    if show:
        calls["show"] = f"{show} {{id}}" if argument else show
    elif way == "paths":
        calls["show"] = "cat {path}"
    notes: list[str] = []
    if way not in ("ids", "paths", "next"):
        rows, calls, notes = _SPECIAL[way](draw, kind, rows, calls)
    if done:
        argument = argument or (" ID" if way == "stdin" else "")
        rows.append((done + argument, draw.pick((f"mark one {entry} as done", f"close the finished {entry}"))))
        calls["done"] = f"{done} {{id}}" if argument else done
    if draw.chance(0.3):
        draw.rng.shuffle(rows)
    blurb = draw.pick(kind.blurb)
    if mixed:
        notes.append(
            draw.pick(
                (
                    f"Only what is open and names {USER} is this account's; leave other {many} alone.",
                    f"What is done needs nothing more; {kind.article} {entry} of another account is not for {USER}.",
                )
            )
        )
    admin = tuple(draw.verb(ADMIN_VERBS) for _ in range(draw.number(3, 6))) if depth == "pages" else ()
    idle = tuple(draw.rng.sample(IDLE_OPTIONS, draw.number(4, 7))) if depth == "pages" else ()
    return Design(name, kind, documentation, depth, calls, tuple(rows), tuple(notes), blurb, admin, idle)


_Rows = list[tuple[str, str]]
_Drawn = tuple[_Rows, dict[str, str], list[str]]


def _service(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    begin = draw.verb(BEGIN_VERBS)
    rows = [(begin, "has to come first; nothing else answers before"), *rows]
    return rows, {"begin": begin, **calls}, [f"No {kind.entry} is listed before {begin}."]


def _queues(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    lanes = draw.verb(LANE_VERBS)
    mine, other = draw.nouns(2)
    listing = calls["list"]
    rows = [(lanes, "name the queues and whose they are"), (f"{listing} QUEUE", rows[0][1]), *rows[1:]]
    calls = {"queues": lanes, "list": f"{listing} {mine}", "show": calls["show"], "other": other}
    return rows, calls, [f"The {kind.many} of an account are in the queue that bears its name."]


def _ledger(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:  # noqa: ARG001 - one shape
    listing = calls["list"]
    rows = [(f"{listing} [PAGE]", rows[0][1]), *rows[1:]]
    return rows, {"list": listing, "more": f"{listing} 2", "show": calls["show"]}, ["The list has two pages: 1 and 2."]


def _claims(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    claim = "--" + draw.verb(CLAIM_VERBS)
    argument = rows[-1][0].partition(" ")[2]
    rows = [rows[0], (f"{claim} {argument}", f"take one {kind.entry} for this account"), *rows[1:]]
    notes = [f"{kind.article.capitalize()} {kind.entry} is shown to who has taken it."]
    return rows, {"list": calls["list"], "claim": f"{claim} {{id}}", "show": calls["show"]}, notes


def _key(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:  # noqa: ARG001 - one shape
    option, key = draw.pick(KEY_OPTIONS), draw.noun()
    rows = [*rows[:-1], (f"{rows[-1][0]} {option} WORD", rows[-1][1])]
    return rows, {**calls, "show": f"{calls['show']} {option} {key}", "key": key}, [f"The WORD of {USER} is {key}."]


def _stdin(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    what = draw.pick(
        (
            f"print the {kind.entry} whose id comes on standard input",
            f"read an id from stdin and print its {kind.entry}",
        )
    )
    show = calls["show"].partition(" ")[0]
    return [*rows[:-1], (show, what)], {**calls, "show": f"echo {{id}} | {show}"}, []


def _rules(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    option = draw.pick(SHEET_OPTIONS)
    sheet = draw.pick((f"/etc/{draw.noun()}.rules", f"/srv/{draw.noun()}/sheet", f"/var/lib/{draw.noun()}.mk"))
    rows = [
        *rows,
        (f"{option} SHEET", f"list the {kind.many} of a sheet"),
        (f"{option} SHEET {kind.entry.upper()}", f"print what {kind.article} {kind.entry} asks for"),
    ]
    calls = {**calls, "list": f"{option} {sheet}", "show": f"{option} {sheet} {{id}}", "sheet": sheet}
    return rows, calls, [f"The sheet of {USER} is {sheet}."]


_SPECIAL = {
    "service": _service,
    "queues": _queues,
    "pages": _ledger,
    "claim": _claims,
    "key": _key,
    "stdin": _stdin,
    "rules": _rules,
}
