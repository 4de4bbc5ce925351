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
    wordings,
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
        which = "((the |)open|(the |)waiting|(the |)pending|all|current)"
        rows = [(listing, draw.phrase(f"(list|name|enumerate|show|print|give) {which} {many}"))]
    elif listing:
        rows = [
            (
                listing,
                draw.phrase(
                    f"(print|list|show) (the |)(files|paths) (of|for|with) (open|due|waiting|pending|current) {many}"
                ),
            )
        ]
    if show:
        what = draw.phrase(
            f"(print|show|read out|give) (the|your|this|one|today's) {entry}"
            if not argument
            else f"(print|show|display|read|give|output|open) (one|{kind.article}|the|that|any) {entry}"
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
        what = f"((mark|record) one {entry} as (done|finished)|(close|end|tick off) (the|one|your) {entry})"
        rows.append((done + argument, draw.phrase(what)))
        calls["done"] = f"{done} {{id}}" if argument else done
    if draw.chance(0.3):
        draw.rng.shuffle(rows)
    blurb = draw.pick(kind.blurb)
    if mixed:
        notes.append(draw.phrase(draw.pick(_MIXED).format(many=many, user=USER, capital=many.capitalize())))
    admin = tuple(draw.verb(ADMIN_VERBS) for _ in range(draw.number(3, 6))) if depth == "pages" else ()
    idle = tuple(draw.rng.sample(IDLE_OPTIONS, draw.number(4, 7))) if depth == "pages" else ()
    return Design(name, kind, documentation, depth, calls, tuple(rows), tuple(notes), blurb, admin, idle)


# What documentation says where some entries are closed or belong to others.
_MIXED = wordings(
    """
    - (Skip|Ignore|Leave|Omit|Pass over) (closed|done|finished|old) {many}(,| and|; also|, and also)
      (foreign ones|those of others|other accounts'|strangers'|what others own|other people's).
    - (Yours|Your part|To do|Due|For {user}|Wanted)(:| is what is| are those) (open|still open|not done)(,| and|;)
      (owner {user}|{user}'s|under {user}|account {user}).
    - (Closed|Done|Finished) {many} (stay|remain|are kept) (listed|here|on record|visible)(,| and|;)
      (so do|like|as are|just like) (others'|foreign ones|other accounts').
    - ({user} (answers|works|cares) for|(Mind|Do|Take) only) (open |){many} (named|marked|under) {user}.
    - (Work|Act) (only |)on (open|unfinished) {many} (of|for|under) {user}.
    - {capital} (under|of|for) (other|foreign) (names|accounts|users), or (closed|done), (need nothing|want
      nothing|ask for nothing|need no work|are no work|call for nothing).
    """
)

_Rows = list[tuple[str, str]]
_Drawn = tuple[_Rows, dict[str, str], list[str]]


def _service(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    begin = draw.verb(BEGIN_VERBS)
    what = "(start|open|connect|wake|prepare|bring up) (it|the service|the store|your session|everything)(, first|)"
    note = draw.pick(
        (
            f"(Nothing|No {kind.entry}) (shows|appears|is listed|answers) before {begin}.",
            f"{begin} (comes|goes|runs) first.",
            f"(Call|Run|Use|Try) {begin} (first|at the start|before the rest|before all else).",
        )
    )
    return [(begin, draw.phrase(what)), *rows], {"begin": begin, **calls}, [draw.phrase(note)]


def _queues(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    lanes = draw.verb(LANE_VERBS)
    mine, other = draw.nouns(2)
    listing = calls["list"]
    what = (
        "(list|name|show|print) (queues|all queues|the queues)"
        "( and owners|, with accounts|, with owners| by account|, owners too||)"
    )
    rows = [(lanes, draw.phrase(what)), (f"{listing} QUEUE", rows[0][1]), *rows[1:]]
    calls = {"queues": lanes, "list": f"{listing} {mine}", "show": calls["show"], "other": other}
    note = draw.pick(
        (
            "(Every|Each) account (has|owns|uses) (one|a) queue",
            "(Accounts|Users) have (separate|their own) queues",
            f"{kind.many.capitalize()} (lie|wait|stand) in (queues|several queues)",
        )
    )
    return rows, calls, [draw.phrase(f"{note}; (see|ask|call|try) {lanes}.")]


def _ledger(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:  # noqa: ARG001 - one shape
    listing = calls["list"]
    rows = [(f"{listing} [PAGE]", rows[0][1]), *rows[1:]]
    note = draw.pick(
        (
            "(The list|It|This list) (has|fills|takes) (two pages|pages 1 and 2).",
            "(Two pages|Pages): 1(,| and) 2.",
            "(There are|Expect) (two|2) pages.",
        )
    )
    return rows, {"list": listing, "more": f"{listing} 2", "show": calls["show"]}, [draw.phrase(note)]


def _claims(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    claim = "--" + draw.verb(CLAIM_VERBS)
    argument = rows[-1][0].partition(" ")[2]
    what = f"(claim|take|reserve|book|secure|get) (one|{kind.article}|that|the) {kind.entry}"
    rows = [rows[0], (f"{claim} {argument}", draw.phrase(what)), *rows[1:]]
    many = kind.many.capitalize()
    note = draw.pick(
        (
            f"(Claim|Take|Reserve) {kind.article} {kind.entry} (before reading it|first, then read it).",
            f"{many} (open|show|appear) (once|after being|when) (claimed|taken|reserved).",
            f"(Unclaimed|Free|Untaken) {kind.many} (stay|are|remain) (closed|shut|unreadable).",
        )
    )
    return rows, {"list": calls["list"], "claim": f"{claim} {{id}}", "show": calls["show"]}, [draw.phrase(note)]


def _key(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    option, key = draw.pick(KEY_OPTIONS), draw.noun()
    rows = [*rows[:-1], (f"{rows[-1][0]} {option} WORD", rows[-1][1])]
    note = draw.pick(
        (
            f"(The WORD for|WORD of|WORD for) {USER}( is|:) {key}.",
            f"{kind.many.capitalize()} (open|unlock) with a WORD; (yours|{USER}'s)( is|:) {key}.",
            f"(Account|User) {USER}(:|,) WORD {key}.",
        )
    )
    return rows, {**calls, "show": f"{calls['show']} {option} {key}", "key": key}, [draw.phrase(note)]


def _stdin(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    what = draw.pick(
        (
            f"(print|show) the {kind.entry} whose id (comes|is given) on (standard input|stdin)",
            f"(read|take) an id from (stdin|standard input) and (print|show) (its|that) {kind.entry}",
        )
    )
    show = calls["show"].partition(" ")[0]
    return [*rows[:-1], (show, draw.phrase(what))], {**calls, "show": f"echo {{id}} | {show}"}, []


def _range(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    show = calls["show"].partition(" ")[0]
    first, last = draw.pick((("FROM", "TO"), ("FIRST", "LAST"), ("LOW", "HIGH")))
    what = (
        f"(print|show|read out) (the {kind.many}|all {kind.many}|{kind.many}) (from {first} to|{first} through) {last}"
    )
    note = draw.pick(
        (
            f"(One|A single) {kind.entry}: (its id twice|{first} and {last} alike|the same id twice).",
            f"(Both ends|{first} and {last}) (count|belong to it|are included) and may be (equal|the same|alike).",
        )
    )
    return (
        [*rows[:-1], (f"{show} {first} {last}", draw.phrase(what))],
        calls | {"show": f"{show} {{id}} {{id}}"},
        [draw.phrase(note)],
    )


def _postfix(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    show, _, argument = rows[-1][0].partition(" ")
    note = f"(The id|An id|The {kind.entry}'s id) (comes|stands|goes) (first|before the verb|ahead of {show})."
    return [*rows[:-1], (f"{argument} {show}", rows[-1][1])], calls | {"show": f"{{id}} {show}"}, [draw.phrase(note)]


def _rules(draw: Draw, kind: ProviderKind, rows: _Rows, calls: dict[str, str]) -> _Drawn:
    option = draw.pick(SHEET_OPTIONS)
    sheet = draw.pick((f"/etc/{draw.noun()}.rules", f"/srv/{draw.noun()}/sheet", f"/var/lib/{draw.noun()}.mk"))
    a, entry = kind.article, kind.entry
    rows = [
        *rows,
        (f"{option} SHEET", draw.phrase(f"(list|show) the {kind.many} (of|in) a sheet")),
        (f"{option} SHEET {entry.upper()}", draw.phrase(f"(print|show) what {a} {entry} (asks for|says|wants)")),
    ]
    calls = {**calls, "list": f"{option} {sheet}", "show": f"{option} {sheet} {{id}}", "sheet": sheet}
    return rows, calls, [draw.phrase(f"(The sheet of|The sheet for|Sheet of) {USER}( is|:) {sheet}")]


_SPECIAL = {
    "service": _service,
    "queues": _queues,
    "pages": _ledger,
    "claim": _claims,
    "key": _key,
    "stdin": _stdin,
    "rules": _rules,
    "range": _range,
    "postfix": _postfix,
}
