"""Where the words of a command come from: general knowledge, or something that the session has shown before.

A model that is trained on words which nothing has shown learns to invent them. This checker reads recorded sessions
alone; it shares nothing with the reference operator, which keeps the same rule by other means.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.posix_sdc.records.schema import Trajectory


@dataclass(frozen=True)
class Unshown:
    """A word that a command uses before anything has shown it.

    Args:
        turn: index of the assistant turn.
        word: what was used.
        command: the whole command.
    """

    turn: int
    word: str
    command: str


def unshown(session: Trajectory) -> list[Unshown]:
    """Return every word of a trained command that is neither general knowledge nor shown by an earlier turn.

    Shown is what a turn of the system or the environment holds. Commands that are no targets of training are passed
    over, and so is the prose of ``panic REASON`` but for the names in it.
    """
    found, seen = [], ""
    for at, turn in enumerate(session.turns):
        if turn.role != "assistant":
            seen += turn.content + "\n"
        elif turn.train:
            shown = _Shown(seen)
            found += [Unshown(at, word, turn.content) for word in _facts(turn.content) if not shown.has(word)]
    return found


class _Shown:
    """What a session has shown so far."""

    def __init__(self, text: str) -> None:
        self._text = text.lower()
        self._words = set(re.findall(r"[a-z]+|[0-9]+", self._text)) | set(re.findall(r"\w+", self._text))

    def has(self, word: str) -> bool:
        word = word.lower()
        if word.isdecimal():
            return bool({word, word.lstrip("0"), f"0{word}", *_spelled(word)} & self._words)
        return word in self._words or (not word.isalnum() and word in self._text)


# ------------------------------------------------------------------------------------------------ general knowledge


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UTILITIES = _set(
    """. : [ alias awk base64 basename bg cat cd chmod chown cksum cmp comm command cp crontab cut date df diff dirname
    du echo egrep env exec exit export expr false fg fgrep file find fold getent grep groups gunzip gzip head hostname
    id jobs join kill less ln ls man md5sum mkdir mkfifo mktemp more mv nl od paste pgrep pkill printenv printf ps pwd
    readlink realpath rm rmdir sed seq set sh sha256sum shift sleep sort split stat tac tail tar tee test touch tr trap
    tree true type umask uname uniq unset wait wc which who whoami xargs zcat"""
)
_SHELL = _set("for in do done while until read if then elif else fi case esac { } ! ( ) local return continue break")
# Words inside the programs of awk, sed, find, tr, stat and the like, and the places that every system has.
_LANGUAGE = _set(
    """print printf BEGIN END next getline length substr index split gsub sub match tolower toupper NR NF FS OFS RS ORS
    FNR FILENAME sum total count max min line last name type newer maxdepth mindepth delete empty perm size iname print0
    not upper lower alpha digit alnum space punct blank TERM KILL HUP INT USR1 USR2 STOP CONT EOF
    rwx rw rx wx swap list file append help null
    args pid user home cron.d HOME PATH PWD USER SHELL PS1 IFS LANG TMPDIR OLDPWD
    dev tmp etc var usr bin share local lib mail spool opt srv root motd passwd profile proc cmdline cron"""
)
_SPELLED = (
    *("zero", "one first", "two second", "three third", "four fourth", "five fifth", "six sixth", "seven seventh"),
    *(
        "eight eighth",
        "nine ninth",
        "ten tenth",
        "eleven eleventh",
        "twelve twelfth",
        "thirteen",
        "fourteen",
        "fifteen",
    ),
)
_ALWAYS = frozenset("01")  # nothing and one: "is there any", "the largest", "sleep 1"
# Fields, lines, descriptors, and the name that everybody gives to what is put aside for a moment.
_PLACE = re.compile(r"\bswap\.tmp\b|(?:\$|-[fk] ?|\\|NR *[=<>!]+ *)[0-9,]+|[0-9]*[<>]+&?[0-9]*")
_MODES = re.compile(r"(?<![\w.-])[-/+]?0?[0-7]{3}(?![\w.])")
_TAKE_MODES = _set("chmod find mkdir umask")
_NAME = re.compile(r"[\w.-]*\w\.\w[\w.-]*|[\w-]*\d[\w-]*|\w[\w]*")


def _spelled(number: str) -> list[str]:
    return _SPELLED[int(number)].split() if int(number) < len(_SPELLED) else []


# ------------------------------------------------------------------------------------------------------- the words


def _facts(command: str) -> Iterator[str]:
    """Yield the words of a command that general knowledge does not hold."""
    first, _, reason = command.strip().partition(" ")
    if first == "panic":
        yield from (word for word in re.findall(r"[\w/.-]*[\w-]+\.\w+|/[\w/.-]+", reason))
        return
    # How many lines one looks at is anybody's choice; of those that go into a result, one, two, and all but the first.
    command = re.sub(r"^(head|tail) -n \d+(?= [^|>]*$)|\b(head|tail) -n (?:[12]|\+2)\b", r"\1\2", command)
    for utility, words in _commands(command):
        known = utility in _UTILITIES
        if not known and utility:
            yield from _of(utility)
        for word in words:
            if known or not utility:
                yield from _arguments(utility, word)
            elif word not in ("--help", "-h"):
                yield from (part for part in re.split(r"[^\w.:/-]+", word) if part)


def _commands(command: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each simple command of a line: its utility and its other words."""
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars="();<>|&`")
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:
        words = command.split()
    utility, rest = "", list[str]()
    for word in words:
        ends = bool(re.fullmatch(r"[();|&`]+", word)) or word in _SHELL
        if not ends and utility == "" and not re.match(r"\w+=", word) and not re.fullmatch(r"[<>&]+", word):
            utility = word.removeprefix("$")
        elif ends:
            yield utility, rest
            # The variable of a loop names itself.
            utility, rest = ("" if word not in ("for", "read") else ":"), []
        else:
            rest.append(word)
    yield utility, rest


def _arguments(utility: str, word: str) -> Iterator[str]:
    """Yield the facts in a word that a known utility is given, a program of sed or awk included."""
    if re.fullmatch(r"-\w{1,4}[,:;]?|--[a-z-]+", word) or (utility == "tar" and re.fullmatch(r"[ctrxuvzfO]+", word)):
        return
    text = _PLACE.sub(" ", re.sub(r"^--[a-z-]+=", "", word))
    text = re.sub(r"\[:\w+:\]|[aA]-[zZ]|0-9|\\[nts]|%[-\w]|\.\*", " ", text)
    if utility == "sed":
        text = re.sub(r"(?<![\w.])(\d+)([pdq=]|,\d+[pdq=])", r"\1 \2 ", text)  # 2,4p
        text = re.sub(r"(\d)([pdq=])\b", r"\1 \2", text)
        text = re.sub(r"^(/[^/]*/|\$|\d+ ?)[aic]", r"\1 ", text)  # /^key=/ckey=value
        text = re.sub(r"\bba\b", " ", text)  # a jump to the label a
    if utility in _TAKE_MODES:
        text = _MODES.sub(" ", re.sub(r"\b[ugoa]*[-+=][rwxXst,ugo=+-]*", " ", text))
    yield from _of(text)


def _of(text: str) -> Iterator[str]:
    for name in _NAME.findall(text):
        if (len(name) > 1 or name.isdecimal()) and name not in _LANGUAGE | _UTILITIES | _ALWAYS:
            yield name.strip(".-")
