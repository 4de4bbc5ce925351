"""The axes along which scenarios vary, as pure data. Shares are weights, not percentages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.records.axes import CHAINED, TOOLS, announcement_kind, family_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tiararodney.posix_sdc.records.schema import Scenario, Split


@dataclass(frozen=True)
class Archetype:
    """A kind of work.

    Args:
        name: ``family_what``; holdout is by this name.
        split: ``holdout`` archetypes never occur in training data.
        steps: commands of the reference solution, without discovery and ending.
        blocks: the ways in which a panic twin of it can be blocked, see `BLOCKS`.
        weight: how often the course ``first`` draws it against the others; 0 is never.
    """

    name: str
    split: Split
    steps: int
    blocks: tuple[str, ...]
    weight: int = 0

    @property
    def family(self) -> str:
        """The family it belongs to."""
        return family_of(self.name)


@dataclass(frozen=True)
class ProviderKind:
    """A sort of program that hands out directives.

    Args:
        name: of the kind.
        blurb: what the program calls itself in its documentation.
        entry: what it calls one directive.
        listing: how entries are got at, see `LISTINGS`.
        flags: verbs are written as long options.
        ids: ``number``, ``code`` or ``word``.
        split: ``holdout`` kinds never occur in training data.
    """

    name: str
    blurb: tuple[str, ...]
    entry: str
    listing: str = "ids"
    flags: bool = False
    ids: str = "number"
    split: Split = "train"

    @property
    def article(self) -> str:
        """The indefinite one, of what it calls a directive."""
        return "an" if self.entry[0] in "aeiou" else "a"

    @property
    def many(self) -> str:
        """What it calls several directives."""
        return f"{self.entry[:-1]}ies" if self.entry.endswith("y") else f"{self.entry}s"


@dataclass(frozen=True)
class Course:
    """What is drawn, and how often: one way through the axes.

    Args:
        name: of the course.
        commands: how many commands of work (see `level_of`) to weight; empty for each archetype's own.
        providers: kinds, evenly, those of the split.
        announcements: kind to weight; those of the split, see `HELD_ANNOUNCEMENTS`.
        documentation: kind to weight.
        depths: how much documentation says, to weight.
        twists: how often a world holds red herrings, and an operator knows other ways and makes honest mistakes.
    """

    name: str
    commands: Mapping[int, int]
    providers: tuple[ProviderKind, ...]
    announcements: Mapping[str, int]
    documentation: Mapping[str, int]
    depths: Mapping[str, int]
    twists: float


_INPUT = ("missing", "denied", "contradiction")
_OUTPUT = ("contradiction",)

ARCHETYPES: tuple[Archetype, ...] = (
    # The family text is about the lines and words of files.
    Archetype("text_count", "train", 1, _INPUT, weight=4),
    Archetype("text_first", "train", 1, _INPUT, weight=4),
    Archetype("text_matching", "train", 1, _INPUT, weight=4),
    Archetype("text_sort", "train", 1, _INPUT, weight=4),
    Archetype("text_replace", "train", 1, ("missing", "denied"), weight=4),
    Archetype("text_headless", "train", 1, _INPUT, weight=1),
    Archetype("text_bottom", "train", 1, _INPUT, weight=3),
    Archetype("text_unique", "train", 1, _INPUT, weight=2),
    Archetype("text_reverse", "train", 1, _INPUT, weight=3),
    Archetype("text_checksum", "train", 1, _INPUT, weight=2),
    Archetype("text_paste", "train", 1, ("missing", "contradiction"), weight=2),
    Archetype("text_upper", "train", 1, _INPUT, weight=2),
    Archetype("text_tally", "train", 1, _INPUT, weight=1),
    Archetype("text_last", "holdout", 1, _INPUT, weight=2),
    Archetype("text_without", "holdout", 1, _INPUT, weight=2),
    Archetype("text_range", "train", 1, _INPUT),
    Archetype("text_prefix", "train", 1, _INPUT),
    Archetype("text_word", "train", 1, _INPUT),
    Archetype("text_numbered", "train", 1, _INPUT),
    Archetype("text_total", "train", 1, _INPUT),
    # The family files is about what lies where.
    Archetype("files_note", "train", 1, _OUTPUT, weight=4),
    Archetype("files_rename", "train", 1, ("missing", "contradiction"), weight=4),
    Archetype("files_remove", "train", 1, ("missing",), weight=3),
    Archetype("files_folder", "train", 1, _OUTPUT, weight=3),
    Archetype("files_empty", "train", 1, _OUTPUT, weight=3),
    Archetype("files_move", "train", 1, ("missing", "contradiction"), weight=3),
    Archetype("files_shelve", "train", 2, ("missing", "contradiction"), weight=2),
    Archetype("files_join", "train", 1, ("missing", "contradiction"), weight=2),
    Archetype("files_names", "train", 1, ("missing",), weight=2),
    Archetype("files_compress", "train", 1, _INPUT, weight=2),
    Archetype("files_copy", "holdout", 1, _INPUT, weight=2),
    Archetype("files_link", "holdout", 1, _OUTPUT, weight=2),
    Archetype("files_find", "train", 1, ("missing", "contradiction")),
    Archetype("files_gather", "train", 1, ("contradiction",)),
    Archetype("files_swap", "train", 3, ("missing",)),
    Archetype("files_tree", "train", 2, _OUTPUT),
    # The family rights is about modes.
    Archetype("rights_mode", "train", 1, ("missing", "denied"), weight=3),
    Archetype("rights_script", "train", 2, _OUTPUT, weight=1),
    Archetype("rights_executable", "train", 1, ("missing",)),
    Archetype("rights_private", "train", 1, ("missing", "denied")),
    Archetype("rights_open", "train", 1, ("missing", "contradiction")),
    # The family config is about key=value files.
    Archetype("config_set", "train", 1, ("missing", "denied"), weight=3),
    Archetype("config_add", "train", 1, ("missing", "denied"), weight=2),
    Archetype("config_read", "train", 1, _INPUT, weight=1),
    Archetype("config_backup", "train", 2, ("missing", "denied"), weight=3),
    Archetype("config_drop", "holdout", 1, ("missing", "denied"), weight=2),
    Archetype("config_comment", "train", 1, ("missing", "denied")),
    Archetype("config_section", "train", 1, ("missing", "denied")),
    Archetype("config_merge", "train", 2, ("missing", "denied")),
    # The family logs is about levelled lines.
    Archetype("logs_level", "train", 1, _INPUT, weight=2),
    Archetype("logs_rotate", "train", 2, ("missing",), weight=1),
    Archetype("logs_count", "holdout", 1, _INPUT, weight=2),
    Archetype("logs_hour", "train", 1, _INPUT),
    Archetype("logs_loudest", "train", 1, _INPUT),
    Archetype("logs_split", "train", 2, _INPUT),
    # The family archive is about files that hold files.
    Archetype("archive_pack", "train", 1, ("missing", "contradiction"), weight=1),
    Archetype("archive_unpack", "train", 1, ("missing",), weight=1),
    Archetype("archive_extract", "train", 1, ("missing", "denied")),
    Archetype("archive_member", "train", 1, _INPUT),
    Archetype("archive_contents", "train", 1, _INPUT),
    Archetype("archive_add", "train", 2, ("missing", "denied")),
    # The family convert is about one format to another.
    Archetype("convert_column", "train", 1, _INPUT, weight=2),
    Archetype("convert_delimiter", "train", 1, _INPUT, weight=1),
    Archetype("convert_swap", "train", 1, _INPUT),
    Archetype("convert_csv", "train", 1, _INPUT),
    Archetype("convert_line", "train", 1, _INPUT),
    Archetype("convert_lines", "train", 1, _INPUT),
    Archetype("convert_base64", "train", 1, _INPUT),
    Archetype("convert_exports", "train", 1, _INPUT),
    # The family session is about the environment of the shell.
    Archetype("session_variable", "train", 1, _OUTPUT, weight=1),
    Archetype("session_profile", "train", 1, ("denied",), weight=1),
    Archetype("session_path", "train", 1, ("denied",)),
    Archetype("session_source", "train", 2, _INPUT),
    Archetype("session_unset", "train", 1, ("missing", "denied")),
    # The family build is about scripts that are run.
    Archetype("build_run", "train", 1, ("missing", "failing"), weight=3),
    Archetype("build_chain", "train", 2, ("missing", "failing"), weight=1),
    Archetype("build_order", "train", 3, ("missing", "failing")),
    Archetype("build_repair", "train", 2, ("missing", "failing")),
    Archetype("build_variable", "train", 1, ("missing", "failing")),
    # The family mail is about answers.
    Archetype("mail_answer", "train", 2, ("missing",), weight=1),
    Archetype("mail_sort", "train", 1, ("missing",)),
    Archetype("mail_unread", "train", 1, ("missing", "contradiction")),
    Archetype("mail_subjects", "train", 1, ("missing", "contradiction")),
    Archetype("mail_forward", "train", 2, ("missing", "denied")),
    # The family ticket is about files with a head of fields.
    Archetype("ticket_close", "train", 2, ("missing", "denied")),
    Archetype("ticket_assign", "train", 1, ("missing",)),
    Archetype("ticket_open", "train", 1, ("missing", "contradiction")),
    Archetype("ticket_purge", "train", 1, ("missing",)),
    # The family schedule is about crontab-like tables.
    Archetype("schedule_add", "train", 1, ("missing", "denied"), weight=1),
    Archetype("schedule_shift", "train", 1, ("missing", "denied")),
    Archetype("schedule_pause", "train", 1, ("missing", "denied")),
    Archetype("schedule_due", "train", 1, _INPUT),
    # The family service is about a control program with its state.
    Archetype("service_switch", "train", 1, ("failing",), weight=1),
    Archetype("service_port", "train", 2, ("missing", "failing")),
    Archetype("service_running", "train", 1, ("missing", "contradiction")),
    Archetype("service_enable", "train", 2, ("denied",)),
    # The family process is about programs that run while the session does.
    Archetype("process_stop", "train", 2, ("failing",)),
    Archetype("process_reload", "train", 3, ("missing",)),
    Archetype("process_report", "train", 3, ("failing",)),
    Archetype("process_start", "train", 3, ("failing",)),
    Archetype("process_one", "train", 3, ("failing",)),
    # The family tool is about invented utilities: each archetype is a kind of utility.
    Archetype("tool_stamp", "train", 1, _INPUT),
    Archetype("tool_pick", "train", 1, _INPUT),
    Archetype("tool_convert", "train", 1, _INPUT),
    Archetype("tool_redact", "train", 1, _INPUT),
    Archetype("tool_seal", "train", 1, _INPUT),
    Archetype("tool_book", "train", 1, ("missing", "denied")),
    Archetype("tool_strike", "train", 1, ("missing", "denied")),
    Archetype("tool_deal", "holdout", 1, _INPUT),
    Archetype("tool_weave", "holdout", 1, _INPUT),
    # The families compare and survey are held out whole: nothing that training shows is their relative.
    Archetype("compare_missing", "holdout", 1, ("missing", "contradiction")),
    Archetype("compare_folders", "holdout", 1, ("missing", "contradiction")),
    Archetype("survey_largest", "holdout", 1, ("missing", "contradiction")),
    Archetype("survey_empty", "holdout", 1, ("missing",)),
)

PROVIDERS: tuple[ProviderKind, ...] = (
    ProviderKind("queue", ("directive queue", "work queue", "pending work", "job line", "waiting work"), "entry"),
    ProviderKind("ticket", ("ticket tool", "open tickets", "ticket desk", "account tickets"), "ticket", flags=True),
    ProviderKind("mailbox", ("letter box", "account mail", "incoming letters", "mailbox"), "letter"),
    ProviderKind("board", ("notice board", "pinned slips", "slip board", "cork board"), "slip", ids="code"),
    ProviderKind("spool", ("job sheets", "sheet spool", "work sheets", "sheet folder"), "sheet", listing="paths"),
    ProviderKind("runner", ("manual targets", "target list", "target runner", "open targets"), "target", ids="word"),
    ProviderKind("desk", ("front desk", "help desk", "reception", "service desk"), "directive", listing="next"),
    ProviderKind(
        "service",
        ("directive service", "work service", "request service", "request daemon"),
        "request",
        listing="service",
    ),
    ProviderKind(
        "exchange", ("queue exchange", "several queues", "order exchange", "order queues"), "order", listing="queues"
    ),
    ProviderKind(
        "ledger",
        ("directive ledger", "paged ledger", "posting ledger", "account ledger"),
        "posting",
        listing="pages",
        ids="code",
    ),
    ProviderKind(
        "claims", ("claims desk", "claim counter", "work claims", "claim office"), "claim", listing="claim", flags=True
    ),
    ProviderKind(
        "register",
        ("keyed register", "record register", "directive register", "sealed records"),
        "record",
        listing="key",
    ),
    ProviderKind(
        "wicket",
        ("id hatch", "note wicket", "hatch", "note counter"),
        "note",
        listing="stdin",
        ids="code",
        split="holdout",
    ),
    ProviderKind(
        "makefile",
        ("rule sheet", "rule runner", "work rules", "rule reader"),
        "rule",
        listing="rules",
        ids="word",
        split="holdout",
    ),
    ProviderKind(
        "roster",
        ("duty roster", "roster reader", "numbered duties", "duty rolls"),
        "duty",
        listing="range",
        split="holdout",
    ),
    ProviderKind(
        "cards",
        ("card index", "card file", "index of cards", "card drawer"),
        "card",
        listing="postfix",
        ids="word",
        split="holdout",
    ),
)

# How entries are got at. `ids`: list, then show by id. `paths`: the list gives files to read. `next`: one verb prints
# all. `service`: it has to be started before it answers. `queues`: there is a list for each queue. `pages`: the list
# has two pages. `claim`: an entry is claimed before it is shown. `key`: showing takes a key that the documentation
# names. `stdin`: the id is read from standard input. `rules`: a plain file is listed and shown with an option.
# `range`: showing takes the first and the last id. `postfix`: the id stands before the verb.
LISTINGS = (
    *("ids", "paths", "next", "service", "queues", "pages", "claim", "key"),
    *("stdin", "rules", "range", "postfix"),
)

# Why a panic world cannot be solved: an input the directive names is not there; it cannot be read; the directive
# contradicts itself; the program that has to be used fails.
BLOCKS = ("missing", "denied", "contradiction", "failing")

# Announcements that nothing points to: a notice in the parent folder, a mail spool, a folder under /etc, a README in a
# sibling folder, a file among others, a process's command line, a crontab, the home directory.
SOUGHT = ("parent", "mail", "etc", "sibling", "search", "process", "cron", "home")
# Announcements that name a place to go to: a folder with one file, a file, a folder of several files, the parent folder
# in words, a folder of folders, a folder with a file for each account.
NAMED = ("folder", "notice", "spool", "above", "cabinet", "slips")
HELD_ANNOUNCEMENTS = frozenset({"cron", "home", "cabinet", "slips"})
TOOL_SHARE = 0.6  # of the worlds in which a further piece of work can be one that takes an invented utility

# What a holdout scenario can be made of that no training scenario has.
HELD_OUT = ("archetypes", "providers", "announcements", "utilities")

FULL = Course(
    "full",
    {1: 16, 2: 18, 3: 16, 4: 13, 5: 11, 6: 8, 7: 6, 8: 5, 9: 4, 10: 3},
    PROVIDERS,
    {"motd": 4, "banner": 3, "env": 3, "file": 3, CHAINED: 5}
    | {"folder": 1, "notice": 1, "spool": 1, "above": 1, "cabinet": 1, "slips": 1}
    | {"parent": 2, "mail": 2, "etc": 2, "sibling": 2, "search": 1, "process": 1, "cron": 2, "home": 2},
    {"help": 5, "man": 4, "usage": 4},
    {"line": 6, "short": 6, "long": 4, "pages": 3},
    0.5,
)
# One or two steps, an announcement that names the provider or a place to go to, nothing misleading: what the smallest
# models begin with.
FIRST = Course(
    "first",
    {},
    tuple(p for p in PROVIDERS if p.listing in ("ids", "paths", "next", "stdin")),
    {"motd": 8, "banner": 5, "env": 4, "file": 4}
    | {"folder": 4, "notice": 3, "spool": 2, "above": 2, "cabinet": 1, "slips": 1},
    {"help": 5, "man": 4, "usage": 4},
    {"line": 12, "short": 7, "long": 1},
    0.0,
)
ANNOUNCEMENTS: Mapping[str, int] = FULL.announcements
DOCUMENTATION: Mapping[str, int] = FULL.documentation
COURSES: Mapping[str, Course] = {course.name: course for course in (FULL, FIRST)}
COMMANDS = (min(FULL.commands), max(FULL.commands))  # of work
DEPTHS: tuple[str, ...] = tuple(FULL.depths)

PANIC_EVERY = 9  # one scenario in nine is a panic world: 11 %
PAIR_EVERY = 20  # in the course `first` one scenario in twenty holds two directives

BY_NAME: Mapping[str, Archetype] = {a.name: a for a in ARCHETYPES}
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(a.name.partition("_")[0] for a in ARCHETYPES))


def archetypes_of(split: Split, held_out: Collection[str] = HELD_OUT) -> tuple[Archetype, ...]:
    """Return the archetypes that worlds of a split are made of, in the order of the table.

    Args:
        split: of the worlds.
        held_out: axes of `HELD_OUT` on which a holdout world takes what training never shows.
    """

    def wanted(archetype: Archetype) -> Split:
        return split if ("utilities" if archetype.family == TOOLS else "archetypes") in held_out else "train"

    return tuple(a for a in ARCHETYPES if a.split == wanted(a))


def providers_of(course: Course, split: Split, held_out: Collection[str] = HELD_OUT) -> tuple[ProviderKind, ...]:
    """Return the kinds of providers that worlds of a split have, see `archetypes_of`."""
    wanted = split if "providers" in held_out else "train"
    return tuple(p for p in course.providers if p.split == wanted)


def announcements_of(course: Course, split: Split, held_out: Collection[str] = HELD_OUT) -> dict[str, int]:
    """Return the kinds of announcements that worlds of a split have, with their weights, see `archetypes_of`."""
    held = split == "holdout" and "announcements" in held_out
    return {kind: weight for kind, weight in course.announcements.items() if (kind in HELD_ANNOUNCEMENTS) == held}


def held_out_in(scenario: Scenario) -> list[str]:
    """Return what a scenario holds that is held out, such as ``provider makefile``; a training scenario has none."""
    works = [str(w["archetype"]) for d in scenario.directives for w in d.extra.get("works", ()) if "archetype" in w]
    names = dict.fromkeys([scenario.archetype, *works])
    found = [f"archetype {n}" for n in names if n in BY_NAME and BY_NAME[n].split == "holdout"]
    kinds = {p.name: p.split for p in PROVIDERS}
    found += [f"provider {scenario.provider.kind}"] * (kinds.get(scenario.provider.kind) == "holdout")
    kind = announcement_kind(scenario.announcement)
    return found + [f"announcement {kind}"] * (kind in HELD_ANNOUNCEMENTS)


def misplaced(scenario: Scenario) -> str:
    """Return why a scenario does not belong in its split, empty if it does."""
    found = held_out_in(scenario) if scenario.split == "train" else []
    return f"its split is 'train', and it holds what is held out from training: {', '.join(found)}" if found else ""
