"""What a gold command prints and changes in its world, and the checker that compares another outcome with it."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.factory.intercode_alfa.standup import SYSTEM
from tiararodney.posix_sdc.worlds.protocol import Limits, open_world
from tiararodney.posix_sdc.worlds.shell import quoted

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Scenario

BASH = "/bin/bash"
ANSWER = "/home/agent/answer.txt"
SECONDS = 10  # for a command, as in the package
_PRUNED = " -o ".join(f"-path /{name}" for name in SYSTEM)
_FIND = rf"find / -mindepth 1 \( {_PRUNED} \) -prune -o"
_STATE = (
    f"{_FIND} -printf '%y %m %p\\t%l\\n'; "
    f'{_FIND} -type f -print | while read -r f; do printf \'%s \' "$f"; sha256sum <"$f"; done'
)
_PATHS = f"{_FIND} -printf '%y %p\\n'"
_WALKS, _SORTS = (
    re.compile(r"\b(find|grep\s+-\w*[rR]|diff\s+-\w*r)"),
    re.compile(r"\b(sort|tac|head|tail|nl|paste|comm)\b"),
)

STOPPED = re.compile(r"^\[stopped after .*\]$", re.MULTILINE)  # what a world says of a command that took too long

Lines = tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a command does.

    Args:
        printed: on the terminal, errors included.
        answer: its output alone, without errors.
        before: the files before it, a line each (see `_STATE`).
        after: the files after it.
        status: its exit status; None where it did not end.
    """

    printed: str
    answer: str
    before: Lines
    after: Lines
    status: int | None

    @property
    def changes(self) -> Lines:
        """The lines of the state that it took away (``-``) and brought (``+``)."""
        before, after = set(self.before), set(self.after)
        return (*(f"- {line}" for line in sorted(before - after)), *(f"+ {line}" for line in sorted(after - before)))


def play(scenario: Scenario, command: str, runtime: str) -> Outcome:
    """Return what a command does in a fresh world, run as the package runs it: by a bash of its own.

    Raises:
        InfrastructureError: the world failed.
    """
    limits = Limits(command_seconds=SECONDS, output_bytes=4 * 1024**2)
    with open_world(scenario, runtime, limits) as world:
        before = world.run(_STATE)
        did = world.run(f"{BASH} -c {quoted(command)}")
        after = world.run(_STATE)
    if STOPPED.search(did.output):
        return Outcome(did.output, "", (), (), None)
    with open_world(scenario, runtime, limits) as world:
        world.run(f"{BASH} -c {quoted(command)} >{ANSWER}")
        answer = world.run(f"base64 -w0 {ANSWER}").output.strip()
    if before.status is None or after.status is None:
        raise InfrastructureError("the files of a world cannot be listed")
    try:
        text = base64.b64decode(answer, validate=True).decode("utf-8", "surrogateescape")
    except binascii.Error as error:
        raise InfrastructureError(f"an output cannot be read: {error}") from error
    return Outcome(did.output, text, _lines(before.output), _lines(after.output), did.status)


def _lines(text: str) -> Lines:
    return tuple(sorted(text.removesuffix("\n").split("\n")))


def any_order(gold: str) -> bool:
    """Return whether a command prints lines in the order of a file system's folders, which nobody asked for."""
    return bool(_WALKS.search(gold)) and not _SORTS.search(gold)


def checker(outcome: Outcome, *, answer: bool, lines_in_any_order: bool) -> str:
    """Return the text of a checker that compares a world with an outcome: paths, contents and the answer file.

    Args:
        outcome: of the gold command.
        answer: the output has to be in `ANSWER`.
        lines_in_any_order: of the answer.
    """
    checks = [
        (
            "the same files and folders are there as after the gold command",
            f"$({_PATHS} | sort | sha256sum)",
            _paths(outcome),
        ),
        (
            "their contents, modes and targets are the same",
            f"$({{ {_STATE}; }} | sort | sha256sum)",
            _digest(outcome.after),
        ),
    ]
    if answer:
        wanted = outcome.answer.rstrip("\n").split("\n")
        sort = "sort" if lines_in_any_order else "cat"
        shown = f"$(printf '%s\\n' \"$(cat {ANSWER} 2>/dev/null)\" | {sort} | sha256sum)"
        checks.append(
            (
                f"{ANSWER} has what the gold command prints",
                shown,
                _digest(sorted(wanted) if lines_in_any_order else wanted),
            )
        )
    lines = ["bad=0"]
    for n, (name, shown, digest) in enumerate(checks, 1):
        lines.append(
            f'if [ "{shown}" = "{digest}  -" ]; then echo "ok {n} - {name}"; else echo "not ok {n} - {name}"; bad=1; fi'
        )
    return "\n".join([*lines, 'exit "$bad"', ""])


def _paths(outcome: Outcome) -> str:
    """Return the digest of what `_PATHS` prints, sorted, from the longer lines of the state."""
    listed = [found for line in outcome.after if (found := re.match(r"(\w) \d+ (/[^\t]*)\t", line))]
    return _digest(sorted(f"{found[1]} {found[2]}" for found in listed))


def _digest(lines: list[str] | Lines) -> str:
    return sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")).hexdigest()
