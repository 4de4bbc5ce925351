"""Documentation of providers: from one line to several pages, most of which are irrelevant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.vocabulary import IDLE_OPTIONS, NOUNS, PEOPLE, Draw, wordings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    "ids": (
        (
            "(Each|Every) {entry} (has|bears|carries|keeps) (an|its) id(, listed first|, in front|, at "
            "its left|, on every line|||)."
        ),
        "(Ids|Numbers|Names) (stand|come|are) (first|at left|in front).",
        "(Take|Get|Copy|Note) (ids|its id|the id) (first|there).",
        "(Call|Name|Choose|Ask for) {many} by (id|their ids|number|the id given|what stands in front).",
    ),
    "paths": (
        (
            "(Each|Every) {entry} is (a plain file|a text file|a file|plain text); (cat shows it|cat "
            "prints it|use cat|read it with cat)."
        ),
        "(Plain text|Text)(:|;) (use|try|call) cat.",
        "cat (reads|opens|prints) (them|each|any).",
        "(Read|Show|Open) (the files|them|each file) (with|by means of) cat.",
    ),
    "next": (
        "(No list|Without ids): (one text|all in one).",
        "(All|Everything) is printed (at once|in one go).",
        "(No ids, no list|Nothing is listed): the (text|whole text) (comes|is printed).",
    ),
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
    said = [_say(draw, design, draw.pick(_GENERAL[listing]))] if listing in _GENERAL else []
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
        templates = [template for part in _PROSE.values() for template in part]
        head += [_say(draw, design, template) + "." for template in draw.rng.sample(templates, draw.number(3, 5))]
    return "\n".join(head) + "\n"


def _table(name: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(verb) for verb, _ in rows) + 2
    return [f"{name} {verb:<{width}}{what}" for verb, what in rows]


def _say(draw: Draw, design: Design, template: str) -> str:
    """Fill in a template and capitalise it as a sentence, except names of programs."""
    text = draw.phrase(_filled(draw, design, template))
    return text if text.startswith(design.name) else text[:1].upper() + text[1:]


def _filled(draw: Draw, design: Design, template: str) -> str:
    kind = design.kind
    return template.format(
        name=design.name,
        a=kind.article,
        entry=kind.entry,
        many=kind.many,
        host=draw.pick(NOUNS),
        person=draw.pick(PEOPLE).capitalize(),
        low=draw.number(2, 9),
        high=draw.number(20, 900),
        share=design.share,
        option=draw.pick(design.idle or IDLE_OPTIONS),
    )


# What long documentation says besides: true of programs of this sort, and of no use for the work at hand. Cells of a
# table are parted by a tab.
_PROSE: Mapping[str, tuple[str, ...]] = {
    "DESCRIPTION": wordings(
        """
        - {name} (stores|manages|collects|handles) {many} (by account|for several accounts|on {host})
        - (users|accounts) (see|get|receive) (their own|only theirs|what concerns them)
        - (new|later) {many} (go|are put) (below the others|to the end|last)
        - (memory|cache): (none|unused) (between|across) calls
        - {many} (stand|are kept|appear) (in order of arrival|as they arrived|oldest first)
        - {many} (arrive|come in) (at any hour|by night|from {host}|every {low} minutes)
        - {a} {entry} (may have|can take|often has) (several|many|{low}) lines
        - {name} (works offline|needs no network|never talks to {host})
        - (replies|answers) (are not sent|go elsewhere|take another way)
        - {many} (never expire|do not expire|stay for good|have no term|do not lapse)
        - {host} and {name} (share|use) one (clock|index|format)
        - (lists|listings) (stay|are kept) short: {high} at most
        - for (large|big) sites {person} (suggests|recommends) {host} (instead|as well)
        - (once|at most) {high} {many} (were|have been) (seen|open) (together|on one day|at a time|in one
          week|within an hour)
        """
    ),
    "STORE": wordings(
        """
        - (data|records) (live|lie|are) (below|under|in) {share}
        - (one record per|a record per|one file per|one line per|a file for each) {entry}, (plus|and|beside it)
          (an index|a checksum)
        - (copied|mirrored|backed up) to {host} every {low} hours
        - full stores (refuse|reject|turn away) {many}
        - (write locks last|write locks are held for|writers lock it for|locks expire after|a lock lasts) {low} seconds
        - only root (may write|writes|has access)
        - after {high} days (records are|they are|all entries are|what is old is|old ones are)
          (compressed|archived|moved to {host})
        - (damaged records are|unreadable records are|bad records get|what is damaged is|broken records are)
          (skipped|left out|reported to {person})
        - format: release {low}
        - (checksums|sums) (guard|protect|cover) (every record|each record|all records|the records|the index)
        - (moving|copying) it to {host} (takes|needs) {low} minutes
        - {high} (megabytes|blocks) (are reserved for it|are set aside for it|belong to it|are kept free|are its share)
        """
    ),
    "BUGS": wordings(
        """
        - ((lists of|lists with) {high} {many} (are slow|take long)|with {high} {many} (it is slow|it takes
          long|lists take long))
        - (reports|bug reports|complaints) (go to|should go to|reach|are taken by|are read by) {person}
        - two writers (wait|queue up|take turns)
        - lists: (unsorted|never sorted)
        - (long lines wrap on|long lines are wrapped by|lines are folded on|wide lists wrap on|lines are cut by) {host}
        - {person} knows (of|about) (slow starts|the midnight delay|wrong dates|a delay at midnight|clock trouble)
        - (none|no others|no new ones|nothing) (known since|reported since|found in|heard of in) release {low}
        - (gaps on wide terminals|gaps on very wide terminals|wide terminals show gaps|columns drift
          apart|tables may be torn|stray blanks in lists)
        - (wrong letters on|odd letters on|umlauts break on|garbled names on|bad letters from) {host}
        - see {person}'s list of {high} (wishes|open points)
        """
    ),
    "SECURITY": wordings(
        """
        - it runs (set-user-id|with root's rights|as root)
        - (calls|accesses) are (counted|recorded|logged) (by|per) account
        - (other|foreign) {many} (stay|remain|are kept) (closed|unreadable)
        - (not for root's|never for root's|useless in root's|not meant for root's|fails in root's)
          (jobs|scripts|crontab)
        - audited by {person} (in|at) release {low}
        - {host} (watches|checks) (it|the store) (daily|hourly|every {low} minutes)
        - (names with slashes|paths with slashes|names that hold slashes|slashes in names|paths): (refused|not taken)
        - (ids|arguments): (checked|validated) first
        - (no|never any) (setuid|root) (scripts|helpers)
        - umask (022|027|077)
        - (report holes to|report leaks to|tell of leaks|holes are reported to|leaks concern|ask about holes:) {person}
        """
    ),
}
_CELLS: Mapping[str, tuple[str, ...]] = {
    "FILES": (
        "{share}\t(store|data|records)",
        "/etc/{name}.d\t(settings|site settings|optional)",
        "/var/log/{name}.log\t(messages|log|diagnostics)",
        "/run/{name}.lock\t(lock|write lock)",
        "/etc/{host}.map\t(accounts|host names|aliases)",
        "/var/cache/{name}\t(unused|old indices)",
    ),
    "ENVIRONMENT": (
        "COLUMNS\t(list width|line width|width)",
        "NO_COLOR\t(no colours|plain output)",
        "PAGER\t(ignored|unused)",
        "TZ\t(ignored|time zone)",
        "LANG\t(ignored|no effect)",
        "{host}_HOME\t(obsolete|ignored)",
    ),
    "EXIT STATUS": (
        "0\t(success|ok|done)",
        "1\t(unknown {entry}|no such {entry}|not found)",
        "2\t(usage error|wrong usage|bad call)",
        "{high}\t(maintenance|store locked|try later)",
    ),
    "DIAGNOSTICS": (
        "which {entry}?\t(id missing|no id)",
        "no {entry} N\t(unknown id|wrong id)",
        "store locked\t(try later|{host} copies)",
        "see ...\t(wrong call|usage error)",
        "index stale\t(tell {person}|rebuild it)",
    ),
    "HISTORY": (
        "{low}.0\t(first release|{person}'s version|rewritten)",
        "{low}.1\t(index added|faster lists|{person} takes over)",
        "{low}.2\t(moved to {host}|new format|ports)",
        "{low}.3\t(checksums|smaller records|fixes)",
        "{low}.5\t({option} ignored|{option} dropped)",
        "{low}.6\t(logs|manual page|documentation)",
        "{low}.8\t(bug fixes|{host} support)",
        "{low}.9\t(cleanup|last changes|{person} leaves)",
    ),
    "SEE ALSO": ("{host}(1), {host}(5)", "{host}(8)", "/usr/share/doc/{host}"),
    "AUTHORS": ("{person}\t(program|code)", "{person}\t(manual|texts)", "{person}\t(ports|{host} port)"),
}
_LINES = 1, 2  # of prose in a section


def _pages(draw: Draw, design: Design, said: Sequence[str]) -> list[str]:
    """Return pages that list the needed verbs among those for administrators.

    The rest, in any order, are options that nobody needs, files, history.
    """
    rows = [
        *design.rows,
        *((verb, f"{draw.phrase(_filled(draw, design, draw.pick(_CHORES)))}; root only") for verb in design.admin),
    ]
    draw.rng.shuffle(rows)
    options = [f"{option} {option.lstrip('-').partition('-')[0].upper()}" for option in design.idle]
    sections = [("OPTIONS", _cells([(option, _say(draw, design, draw.pick(_IDLE))) for option in options]))]
    sections.append(("COMMANDS", [*_table(design.name, rows), *said]))
    for title, templates in _PROSE.items():
        taken = draw.rng.sample(templates, draw.number(*_LINES))
        sections.append((title, [_say(draw, design, template) + "." for template in taken]))
    for title, templates in _CELLS.items():
        said_cells = [draw.phrase(_filled(draw, design, template)).partition("\t")[::2] for template in templates]
        sections.append((title, _cells(said_cells)))
    draw.rng.shuffle(sections)
    lines = [line for title, lines in sections for line in (title, *(f"    {x}" for x in lines), "")]
    return ["NAME", f"    {design.name} - {design.blurb}", "", *lines[:-1]]


def _cells(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(first) for first, _ in rows) + 2
    return [f"{first:<{width}}{second}".rstrip() for first, second in rows]


_CHORES = (
    "(sort|repair) (index|store)",
    "(convert|import) {host}",
    "copy (everything|to {host})",
    "(delete|drop|discard|prune) closed",
    "check numbering",
    "(pause|stop) intake",
    "(count|recount) records",
    "verify checksums",
)
_IDLE = (
    "(for|kept for) {host}",
    "(ignored|unused|no effect)",
    "(default|usually) {high}",
    "(paper layout|printers only|on paper)",
    "(obsolete|reserved)",
    "(since|until) {low}.{high}",
)
