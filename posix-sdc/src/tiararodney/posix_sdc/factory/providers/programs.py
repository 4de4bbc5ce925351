"""A provider's files: its entries, the indices that list them, and its program in sh.

The entries and indices are root's alone and the program runs as root (mode 4755), so that the session's user reads
what the program hands out, and nothing else.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.vocabulary import PEOPLE
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiararodney.posix_sdc.factory.providers.documentation import Design

USER = "agent"  # whose entries the session's are
_BIN, _LIBEXEC = "/usr/local/bin", "/usr/local/libexec"


@dataclass(frozen=True)
class Entry:
    """One entry of a provider.

    Args:
        text: of the directive.
        owner: whose it is.
        state: ``open`` or ``done``; only what is open and the session's own is to be done.
    """

    text: str
    owner: str = USER
    state: str = "open"

    @property
    def due(self) -> bool:
        """True if it is a directive of this session."""
        return self.owner == USER and self.state == "open"


@dataclass(frozen=True)
class Item:
    """An entry with its id and its sender."""

    entry: Entry
    id: str
    sender: str


def _row(design: Design, item: Item, *, mixed: bool) -> str:
    mail, entry = design.kind.name == "mailbox", item.entry
    if not mixed:
        return f"{item.id}  from {item.sender}" if mail else f"{item.id}  open"
    return (
        f"{item.id}  from {item.sender}  {entry.state}  for {entry.owner}"
        if mail
        else (f"{item.id}  {entry.state}  {entry.owner}")
    )


def _body(design: Design, item: Item, *, mixed: bool) -> str:
    if design.kind.name == "mailbox":
        return f"From: {item.sender}\n\n{item.entry.text}\n"
    if mixed and design.kind.listing == "next":
        return f"[{item.entry.state}, {item.entry.owner}] {item.entry.text}\n"
    return f"{item.entry.text}\n"


def stock(design: Design, items: Sequence[Item]) -> list[Fixture]:
    """Write the entries, their index and the folder for closed ones, readable by root only."""
    share, way, name = design.share, design.kind.listing, design.name
    mixed = not all(item.entry.due for item in items)
    rows = [_row(design, item, mixed=mixed) for item in items]
    if way == "paths":
        places = [f"/var/spool/{name}/{item.id}" for item in items]
        rows = [p + row.removeprefix(i.id) if mixed else p for p, row, i in zip(places, rows, items, strict=True)]
    paths = [f"{share}/entry-{item.id}" for item in items]
    bodies = [_body(design, item, mixed=mixed) for item in items]
    out = [Fixture(share, kind="dir", mode="700", owner="root")]
    out += [Fixture(path, body, mode="600", owner="root") for path, body in zip(paths, bodies, strict=True)]
    sheet = design.calls.get("sheet", "")
    out += [
        Fixture(path, text, mode="644" if path == sheet else "600", owner="root")
        for path, text in _indices(design, items, rows).items()
    ]
    out.append(Fixture(f"{share}/all", "".join(bodies), mode="600", owner="root"))
    if {"done", "begin", "claim"} & set(design.calls):
        out.append(Fixture(f"/var/lib/{name}", kind="dir", mode="755", owner="root"))
    if way == "paths":
        out.append(Fixture(f"/var/spool/{name}", kind="dir", mode="755", owner="root"))
    return out


def executables(design: Design) -> list[Fixture]:
    """Write the program; one that reads standard input reads it as the session's user, since root's has none."""
    path, text = f"{_BIN}/{design.name}", program(design)
    if design.kind.listing != "stdin":
        return [Fixture(path, text, mode="4755", owner="root")]
    real, show = f"{_LIBEXEC}/{design.name}", shlex.quote(design.calls["show"].rpartition("| ")[2])
    reads = f"""\
#!/bin/sh
last=
for last; do :; done
[ "$last" != {show} ] || {{ IFS= read -r id; set -- "$@" "$id"; }}
exec {real} "$@"
"""
    return [Fixture(path, reads, mode="755", owner="root"), Fixture(real, text, mode="4755", owner="root")]


def _indices(design: Design, items: Sequence[Item], rows: Sequence[str]) -> Mapping[str, str]:
    """Return the files that list entries, with what they hold."""
    share = design.share
    if design.kind.listing == "queues":
        mine, other = design.calls["list"].split()[1], design.calls["other"]
        whose = next((i.entry.owner for i in items if i.entry.owner != USER), PEOPLE[len(design.name)])
        lanes = sorted([f"{mine}  of {USER}", f"{other}  of {whose}"])
        own = [row for row, i in zip(rows, items, strict=True) if i.entry.owner == USER]
        return {
            f"{share}/lanes": _lines(lanes),
            f"{share}/lane-{mine}": _lines(own),
            f"{share}/lane-{other}": _lines([row for row in rows if row not in own]),
        }
    if design.kind.listing == "pages":
        half = (len(rows) + 1) // 2
        return {
            f"{share}/page-1": _lines([*rows[:half], "page 1 of 2"]),
            f"{share}/page-2": _lines([*rows[half:], "page 2 of 2"]),
        }
    if design.kind.listing == "rules":
        return {design.calls["sheet"]: _lines(f"{item.id}:" for item in items), f"{share}/index": _lines(rows)}
    return {f"{share}/index": _lines(rows)}


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


def program(design: Design) -> str:
    """Write the provider's program in sh."""
    name, share, q, way = design.name, design.share, shlex.quote, design.kind.listing
    lines = ["#!/bin/sh", f"share={share}", "entry() {", '  case "$1" in']
    lines += [f"    '' | */*) echo \"{name}: which {design.kind.entry}? See {design.way}\" >&2; exit 2 ;;", "  esac"]
    lines += [f'  [ -f "$share/entry-$1" ] || {{ echo "{name}: no {design.kind.entry} $1" >&2; exit 1; }}', "}"]
    if design.idle:
        options = " | ".join(design.idle)
        lines += ['while :; do case "${1-}" in', f"  {options}) shift; [ $# -eq 0 ] || shift ;;", "  *) break ;;"]
        lines += ["esac; done"]
    if way == "postfix":
        show = q(design.calls["show"].partition(" ")[2])
        lines.append(f'[ "${{2-}}" != {show} ] || {{ entry "$1"; cat "$share/entry-$1"; exit; }}')
    lines.append('case "${1-}" in')
    lines += _cases(design)
    done = design.calls.get("done", "").partition(" ")
    if done[0] and way == "next":
        lines.append(f"  {q(done[0])}) : > /var/lib/{name}/closed && echo closed ;;")
    elif done[0]:
        lines.append(f'  {q(done[0])}) entry "${{2-}}"; : > "/var/lib/{name}/$2" && echo "$2 closed" ;;')
    if design.admin:
        lines.append(f"  {' | '.join(map(q, design.admin))}) echo '{name}: for administrators only' >&2; exit 1 ;;")
    if design.documentation == "help":
        lines.append("  --help | -h) cat $share/doc ;;")
    elif design.documentation == "usage":
        lines.append("  '') cat $share/doc ;;")
    lines += [f"  *) echo '{name}: see {design.way}' >&2; exit 2 ;;", "esac"]
    return "\n".join(lines) + "\n"


def _cases(design: Design) -> list[str]:
    """Write what the program does for each way of listing."""
    name, way, q = design.name, design.kind.listing, shlex.quote
    listing, show = (
        design.calls.get(step, "").rpartition("| ")[2].removeprefix("{id} ").partition(" ")[0]
        for step in ("list", "show")
    )
    wrong = f"echo '{name}: see {design.way}' >&2; exit 2"
    print_one = 'entry "${2-}"; cat "$share/entry-$2"'
    within = 'n=${f##*-}; [ "$n" -lt "$2" ] || [ "$n" -gt "$3" ] || cat "$f"'
    plain = {
        "ids": print_one,
        "stdin": print_one,
        "range": f'entry "${{2-}}"; entry "${{3-}}"; for f in $share/entry-*; do {within}; done',
        "postfix": wrong,  # without an id before it
    }
    if way in plain:
        return [f"  {q(listing)}) cat $share/index ;;", f"  {q(show)}) {plain[way]} ;;"]
    if way == "paths":
        # The files are laid out when they are listed.
        lay = 'for f in $share/entry-*; do cp -p "$f" "$spool/${f##*/entry-}"; done; chmod 644 $spool/*'
        return [f"  {q(listing)}) spool=/var/spool/{name}; {lay}", "    cat $share/index ;;"]
    if way == "next":
        return [f"  {q(show)}) cat $share/all ;;"]
    if way == "service":
        up, begin = f"/var/lib/{name}/up", design.calls["begin"]
        asleep = f"[ -e {up} ] || {{ echo '{name}: not running; see {design.way}' >&2; exit 1; }}"
        return [
            f"  {q(begin)}) : > {up} && echo running ;;",
            f"  {q(listing)}) {asleep}; cat $share/index ;;",
            f"  {q(show)}) {asleep}; {print_one} ;;",
        ]
    if way == "queues":
        return [
            f"  {q(design.calls['queues'])}) cat $share/lanes ;;",
            f'  {q(listing)}) case "${{2-}}" in "" | */*) {wrong} ;; esac',
            f'    [ -f "$share/lane-$2" ] || {{ echo "{name}: no queue $2" >&2; exit 1; }}; cat "$share/lane-$2" ;;',
            f"  {q(show)}) {print_one} ;;",
        ]
    if way == "pages":
        return [
            f'  {q(listing)}) case "${{2-1}}" in 1 | 2) cat "$share/page-${{2-1}}" ;; *) {wrong} ;; esac ;;',
            f"  {q(show)}) {print_one} ;;",
        ]
    if way == "claim":
        claim = design.calls["claim"].partition(" ")[0]
        untaken = f'[ -e /var/lib/{name}/claim-$2 ] || {{ echo "{name}: $2 has not been taken" >&2; exit 1; }}'
        return [
            f"  {q(listing)}) cat $share/index ;;",
            f'  {q(claim)}) entry "${{2-}}"; : > "/var/lib/{name}/claim-$2" && echo "$2 taken" ;;',
            f'  {q(show)}) entry "${{2-}}"; {untaken}; cat "$share/entry-$2" ;;',
        ]
    if way == "key":
        _, _, option, key = design.calls["show"].split()
        locked = f'[ "${{3-}} ${{4-}}" = {q(f"{option} {key}")} ] || {{ echo "{name}: locked" >&2; exit 1; }}'
        return [
            f"  {q(listing)}) cat $share/index ;;",
            f'  {q(show)}) entry "${{2-}}"; {locked}; cat "$share/entry-$2" ;;',
        ]
    sheet = design.calls["sheet"]
    return [
        f'  {q(listing)}) [ "${{2-}}" = {sheet} ] || {{ echo "{name}: no sheet ${{2-}}" >&2; exit 1; }}',
        '    if [ $# -eq 2 ]; then cat $share/index; else entry "$3"; cat "$share/entry-$3"; fi ;;',
    ]
