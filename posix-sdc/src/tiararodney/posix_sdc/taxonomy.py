"""The axes along which scenarios vary, as pure data. Shares are weights, not percentages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.schema import Split


@dataclass(frozen=True)
class Archetype:
    """A kind of work.

    Args:
        name: ``family_what``; holdout is by this name.
        split: ``holdout`` archetypes never occur in training data.
        steps: commands of the reference solution (its difficulty), without discovery and ending.
        blocks: the ways in which a panic twin of it can be blocked, see `BLOCKS`.
        weight: how often it is drawn against the others.
    """

    name: str
    split: Split
    steps: int
    blocks: tuple[str, ...]
    weight: int = 2

    @property
    def family(self) -> str:
        """The family it belongs to, and the module of `archetypes` that authors it."""
        return self.name.partition("_")[0]


@dataclass(frozen=True)
class ProviderKind:
    """A sort of program that hands out directives.

    Args:
        name: of the kind.
        blurb: what the program calls itself in its documentation.
        entry: what it calls one directive.
        listing: ``ids`` (list, then show by id), ``paths`` (list gives files to
            read) or ``next`` (one verb prints it all).
        flags: verbs are written as long options.
        ids: ``number``, ``code`` or ``word``.
    """

    name: str
    blurb: tuple[str, ...]
    entry: str
    listing: str = "ids"
    flags: bool = False
    ids: str = "number"

    @property
    def many(self) -> str:
        """What it calls several directives."""
        return f"{self.entry[:-1]}ies" if self.entry.endswith("y") else f"{self.entry}s"


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
    Archetype("text_last", "holdout", 1, _INPUT),
    Archetype("text_without", "holdout", 1, _INPUT),
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
    Archetype("files_copy", "holdout", 1, _INPUT),
    Archetype("files_link", "holdout", 1, _OUTPUT),
    # The family rights is about modes.
    Archetype("rights_mode", "train", 1, ("missing", "denied"), weight=3),
    Archetype("rights_script", "train", 2, _OUTPUT, weight=1),
    # The family config is about key=value files.
    Archetype("config_set", "train", 1, ("missing", "denied"), weight=3),
    Archetype("config_add", "train", 1, ("missing", "denied"), weight=2),
    Archetype("config_read", "train", 1, _INPUT, weight=1),
    Archetype("config_backup", "train", 2, ("missing", "denied"), weight=3),
    Archetype("config_drop", "holdout", 1, ("missing", "denied")),
    # The family logs is about levelled lines.
    Archetype("logs_level", "train", 1, _INPUT, weight=2),
    Archetype("logs_rotate", "train", 2, ("missing",), weight=1),
    Archetype("logs_count", "holdout", 1, _INPUT),
    # The family archive is about files that hold files.
    Archetype("archive_pack", "train", 1, ("missing", "contradiction"), weight=1),
    Archetype("archive_unpack", "train", 1, ("missing",), weight=1),
    # The family convert is about one format to another.
    Archetype("convert_column", "train", 1, _INPUT, weight=2),
    Archetype("convert_delimiter", "train", 1, _INPUT, weight=1),
    # The family session is about the environment of the shell.
    Archetype("session_variable", "train", 1, _OUTPUT, weight=1),
    Archetype("session_profile", "train", 1, ("denied",), weight=1),
    # The family build is about scripts that are run.
    Archetype("build_run", "train", 1, ("missing", "failing"), weight=3),
    Archetype("build_chain", "train", 2, ("missing", "failing"), weight=1),
    # The family mail is about answers.
    Archetype("mail_answer", "train", 2, ("missing",), weight=1),
    # The family schedule is about crontab-like tables.
    Archetype("schedule_add", "train", 1, ("missing", "denied"), weight=1),
    # The family service is about a control program with its state.
    Archetype("service_switch", "train", 1, ("failing",), weight=1),
)

PROVIDERS: tuple[ProviderKind, ...] = (
    ProviderKind("queue", ("queue of directives", "a work queue", "line of pending directives"), "entry"),
    ProviderKind("ticket", ("ticket tool", "open tickets of this account"), "ticket", flags=True),
    ProviderKind("mailbox", ("mailbox of this account", "letters for this account"), "letter"),
    ProviderKind("board", ("notice board", "slips pinned to the board"), "slip", ids="code"),
    ProviderKind("spool", ("spool of job sheets", "folder of job sheets"), "sheet", listing="paths"),
    ProviderKind("runner", ("targets to be done by hand", "list of targets"), "target", ids="word"),
    ProviderKind("desk", ("front desk", "desk with one directive at a time"), "directive", listing="next"),
)

ANNOUNCEMENTS: Mapping[str, int] = {"motd": 8, "banner": 5, "env": 4, "file": 4}
DOCUMENTATION: Mapping[str, int] = {"help": 5, "man": 4, "usage": 4}
DEPTHS: Mapping[str, int] = {"line": 12, "short": 7, "long": 1}

# Why a panic world cannot be solved: an input the directive names is not there; it cannot be read; the directive
# contradicts itself; the program that has to be used fails.
BLOCKS = ("missing", "denied", "contradiction", "failing")

PANIC_EVERY = 9  # one scenario in nine is a panic world: 11 %
PAIR_EVERY = 20  # one scenario in twenty holds two directives

BY_NAME: Mapping[str, Archetype] = {a.name: a for a in ARCHETYPES}
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(a.family for a in ARCHETYPES))


def archetypes_of(split: Split) -> tuple[Archetype, ...]:
    """Return the archetypes of one split, in the order of the table."""
    return tuple(a for a in ARCHETYPES if a.split == split)
