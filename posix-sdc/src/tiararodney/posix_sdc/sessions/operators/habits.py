"""How people do the same thing differently, and how they mistype; pure data and text for the reference operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.posix_sdc.records.schema import Scenario

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
    r"(grep|sort|head|tail|wc|cut|tr|sed|awk|cat|mv|cp|rm|chmod|gzip|tac|paste|base64|sha256sum|md5sum|sh|find|comm) "
)
_SHORTEST = 4  # letters of a name in which one can go wrong and still be meant


def mistyped(command: str, inputs: Sequence[str]) -> str:
    """Return a command with its first input's name mistyped; empty where that would do more than fail.

    Args:
        command: the right one.
        inputs: files that it reads.
    """
    name = inputs[0] if inputs else ""
    stem, dot, extension = name.partition(".")
    if not _HARMLESS.match(command) or ">>" in command or len(stem) < _SHORTEST or "/" in name:
        return ""
    wrong = (
        f"{stem[:-2]}{stem[-1]}{stem[-2]}{dot}{extension}" if stem[-1] != stem[-2] else f"{stem[:-1]}{dot}{extension}"
    )
    found = re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w-]|\.\w)")
    return found.sub(wrong, command) if found.search(command) else ""


def is_text(path: str, scenario: Scenario) -> bool:
    """Say whether an input is a file of a few lines, which one reads rather than lists."""
    place = path if path.startswith("/") else f"{scenario.workdir}/{path}"
    return any(f.path == place and f.kind == "file" and "\0" not in f.content for f in scenario.fixtures)
