"""Variations and mistakes of people as data and text functions, for the reference operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Ways to look around, and to read the next place that an announcement names. None prints a time, a size or a pid.
LOOKING: Mapping[str, Sequence[str]] = {
    "ls": ("ls", "ls", "ls -a", "ls -1"),
    "env": ("env", "env", "printenv"),
}
READING: Mapping[str, Sequence[str]] = {
    "file": ("cat {name}", "cat {name}", "head {name}"),
    "env": ("echo $" + "{name}", "printenv {name}", 'echo "$' + '{name}"'),
    "program": ("{name}",),
}
# Where people look first in a session that says nothing.
LANDING: Sequence[Sequence[str]] = (
    ("pwd", "pwd", "pwd; ls"),
    ("ls", "ls -a", "ls -la"),
    ("env", "printenv", "env | sort"),
    ("ls ..", "ls -a .."),
    ("ls /var/mail", "ls -l /var/mail"),
    ("ls -a ~", "ls ~"),
    ("cat /etc/motd", "ls /etc"),
    ("id", "whoami", "id -un"),
    ("ps x -o args", "ps -u agent -o args"),
    ("ls /etc/cron.d", "crontab -l"),
)

# Programs that only complain about a file which is not there.
_HARMLESS = re.compile(
    r"(grep|sort|head|tail|wc|cut|tr|sed|awk|cat|mv|cp|rm|chmod|gzip|tac|paste|base64|sha256sum|md5sum|sh|find|comm|ls"
    r"|tar [tx]\w*) "
)
_SHORTEST = 4  # letters of a name in which one can go wrong and still be meant
_INTO = re.compile(r"(?<![>0-9])> *([\w./-]+)$")  # a command whose result goes into a file, and nothing else

# Options that these utilities do not have.
_NO_OPTION: Mapping[str, str] = {
    "cat": "-y",
    "ls": "-y",
    "sort": "-j",
    "wc": "-x",
    "head": "-x",
    "tail": "-x",
    "cut": "-x",
    "grep": "-j",
    "cp": "-y",
    "mv": "-y",
    "rm": "-y",
    "mkdir": "-y",
    "touch": "-y",
    "paste": "-y",
    "uniq": "-y",
    "tac": "-y",
    "base64": "-y",
    "tr": "-y",
    "sed": "-y",
    "gzip": "-y",
    "md5sum": "-y",
    "sha256sum": "-y",
}
# What is typed by mistake for what is meant, so that the command runs and its result is wrong.
_NEARLY: Sequence[tuple[str, str]] = (
    (r"^grep -v ", "grep "),
    (r"^grep -c ", "grep "),
    (r"^grep -l ", "grep "),
    (r"^grep (?!-)", "grep -v "),
    (r"^head ", "tail "),
    (r"^tail ", "head "),
    (r"^sort -u ", "sort "),
    (r"^sort (?!-)", "sort -r "),
    (r"^wc -l", "wc -c"),
    (r"^tac ", "cat "),
    (r"^tr A-Z a-z", "tr a-z A-Z"),
    (r"^tr a-z A-Z", "tr A-Z a-z"),
    (r"^sed 1d ", "sed 2d "),
    (r"^comm -23 ", "comm -13 "),
    (r"^paste -sd, ", "paste -s "),
    (r"^ls (?!-)", "ls -r "),
    (r"print \$(\d), \$(\d)", r"print $\2, $\1"),
    (r"^tr , ", "tr -d , "),
)


def mistyped(command: str, inputs: Sequence[str]) -> str:
    """Return a command with its first input's name mistyped; empty if that would do more than fail.

    Args:
        command: the right one.
        inputs: files that it reads.
    """
    name = inputs[0] if inputs else ""
    wrong = _slip(name)
    if not _HARMLESS.match(command) or ">>" in command or not wrong or "/" in name:
        return ""
    found = re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w-]|\.\w)")
    return found.sub(wrong, command) if found.search(command) else ""


def _slip(name: str) -> str:
    """Return a name with its last letters swapped, or one of them dropped; empty if it is too short."""
    stem, dot, extension = name.partition(".")
    if len(stem) < _SHORTEST:
        return ""
    swapped = f"{stem[:-2]}{stem[-1]}{stem[-2]}" if stem[-1] != stem[-2] else stem[:-1]
    return f"{swapped}{dot}{extension}"


def misnamed(command: str) -> tuple[str, str, str]:
    """Return a command that writes its result under a mistyped name, that name and the right one; empty where none."""
    found = _INTO.search(command)
    if not found or not _HARMLESS.match(command) or "/" in found.group(1):
        return "", "", ""
    wrong = _slip(found.group(1))
    return (command[: found.start(1)] + wrong, wrong, found.group(1)) if wrong else ("", "", "")


def misplaced(command: str) -> str:
    """Return a command that writes its result where nobody may write; empty where there is none."""
    found = _INTO.search(command)
    if not found or not _HARMLESS.match(command) or "/" in found.group(1):
        return ""
    return f"{command[: found.start(1)]}/{found.group(1)}"


def wrong_option(command: str) -> str:
    """Return a command with an option that its utility does not have; empty where that would do more than fail."""
    utility, _, rest = command.partition(" ")
    option = _NO_OPTION.get(utility)
    if option is None or ">>" in command or re.search(r"[|;&(]", command):
        return ""
    return f"{utility} {option} {rest}".rstrip()


def nearly(command: str) -> tuple[str, str]:
    """Return a command whose result is wrong, and the file that the result goes to; empty where there is none.

    The right command, run afterwards, replaces all that the wrong one did.
    """
    found = _INTO.search(command)
    if found and not re.search(r"[;&(]", command):
        for meant, typed in _NEARLY:
            wrong = re.sub(meant, typed, command, count=1)
            if wrong != command:
                return wrong, found.group(1)
    return "", ""


def touched(commands: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that commands write and leave, and those that they remove."""
    written, gone = dict[str, None](), dict[str, None]()
    for part in (part.strip() for command in commands for part in re.split(r"[;&|]+|\n", command)):
        words = [w.removeprefix("./") for w in part.split() if not w.startswith("-")]
        files = [w for w in words[1:] if re.fullmatch(r"[\w./-]+", w)]
        fresh = re.findall(r">>? *([\w./-]+)", part)
        if words[:1] == ["sed"] and re.search(r"\bsed -i", part):
            fresh += files[-1:]
        elif words[:1] in (["touch"], ["mkdir"]):
            fresh += files
        elif words[:1] == ["cp"]:
            fresh += files[-1:]
        elif words[:1] in (["mv"], ["rm"]):
            taken = files[:-1] if words[0] == "mv" else files
            gone |= dict.fromkeys(taken)
            written = {f: None for f in written if f not in taken}
            fresh += files[-1:] if words[0] == "mv" else []
        written |= dict.fromkeys(f for f in fresh if not f.startswith("/dev/"))
        gone = {f: None for f in gone if f not in fresh}
    return list(written), [f for f in gone if f != "swap.tmp"]
