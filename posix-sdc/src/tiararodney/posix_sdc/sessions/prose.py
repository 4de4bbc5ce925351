"""Detects prose: a reply for a reader instead of a shell command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.posix_sdc.worlds.protocol import CommandResult

_FENCE = re.compile(r"^\s*```", re.MULTILINE)
_SENTENCE = re.compile(r"[A-Z][a-z']*[,:]?$|I'[a-z]+$")
_SYNTAX = set("|&;<>$=`\\/{}[]*~")
_NOT_FOUND, _SYNTAX_ERROR = 127, 2
_MANY_WORDS = 5


def is_prose(command: str, result: CommandResult) -> bool:
    """Return whether a reply is prose rather than a shell command.

    An empty reply is prose, and so is a code fence. Anything else is prose only if the shell could not run it and
    a line of it reads like a sentence: a mistyped command is a command.

    Args:
        command: the reply.
        result: what the world made of it.
    """
    if not command.strip() or _FENCE.search(command):
        return True
    for line in command.splitlines():
        words = line.split()
        if not words:
            continue
        refused = result.status in (_NOT_FOUND, _SYNTAX_ERROR) or f"{words[0]}: not found" in result.output
        plain = line.rstrip()[-1] in ".?!:" or not _SYNTAX & set(line)
        reads = plain and len(words) > 1 and (bool(_SENTENCE.match(words[0])) or len(words) >= _MANY_WORDS)
        if refused and reads:
            return True
    return False
