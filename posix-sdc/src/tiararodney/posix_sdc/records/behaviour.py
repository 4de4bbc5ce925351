"""What a recorded session does, read from its turns alone: looks, changes, verifications, errors, recoveries.

Nothing here knows an operator or a scenario, so that the same figures hold for a script, a person and a model.

A *look* is a command that only shows: `ls`, `cat`, `grep`. A *change* redirects into a file, calls a program that
changes files, runs a script, or calls an unknown program on files without an output. A change's *inputs* are the files
it names that were there before; it is *looked at before* if an earlier look names or shows one of them, and *verified*
if a later look names or shows a file that it changes. An *exploration leads somewhere* if a command that lists or
searches shows a word that nothing showed before and a later command uses.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiararodney.posix_sdc.records.schema import Trajectory


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EXPLORING = _words("""ls find ps which type file env printenv pwd set alias crontab tree whereis locate pgrep""")
LOOKING = EXPLORING | _words(
    """cat head tail less more grep wc sort uniq cut tr diff cmp comm stat od nl awk sed test [ tac rev paste join
    file du df date id whoami sha256sum md5sum cksum base64 zcat column fold expand jobs man command dirname
    basename readlink realpath strings xargs"""
)
CHANGING = _words("""mv cp rm mkdir rmdir touch chmod ln gzip gunzip bzip2 xz tee install truncate split patch""")
_RUNNING = frozenset(["sh", ".", "source", "make", "kill"])
_SCRIPTED = frozenset(("grep", "sed", "awk", "tr"))
_SPLIT = frozenset(("|", "&&", "||", ";", "&", "(", ")", "{", "}", "then", "do", "else"))
_BEFORE = frozenset(("if", "for", "while", "!", "env", "xargs"))
_KNOWN = LOOKING | CHANGING | _RUNNING | frozenset(("tar", "cd", "exit", "panic", "echo", "printf", "true"))
_REDIRECT = re.compile(r"^\d*>{1,2}\|?$")
_NAME = re.compile(r"[\w.~-][\w./~+-]*")
_TOKEN = re.compile(r"[\w./+-]*[\w+-]")
_LETTER = re.compile(r"[A-Za-z]")
_ERROR = re.compile(
    r"No such file|[Pp]ermission denied|not found|cannot |can't |[Uu]sage: |invalid option|unrecognized|unknown |"
    r"missing operand|[Ss]yntax error|Not a directory|Is a directory|not permitted|: no |: see |: locked|not been taken"
)
# Of these, what a utility says that was kept from its work; the rest is how documentation speaks, too.
_FAILED = re.compile(
    r"No such file|[Pp]ermission denied|cannot |can't |not found|invalid option|unrecognized|Not a directory|"
    r"Is a directory|not permitted"
)
_SHORTEST = 3
_SOON = 3  # commands after an error


@dataclass(frozen=True)
class Step:
    """One command with what the terminal showed for it.

    Args:
        command: the assistant turn.
        output: what it printed.
        train: the turn is a target of training.
    """

    command: str
    output: str
    train: bool


@dataclass(frozen=True)
class Behaviour:
    """What one session does.

    Args:
        changes: commands that change files and name one that was there before.
        looked_before: of these, those whose input a look showed before.
        verifiable: commands that change files.
        verified: of these, those whose result a later look shows.
        led: explorations that led somewhere.
        untrained: assistant turns that are no target.
        recovered: a turn that is no target is followed by one that is.
        errors: commands for which the terminal showed an error.
        failed: of these, those that a utility of the system reports.
        gave_up: of these, those that a panic follows within three commands.
    """

    changes: int
    looked_before: int
    verifiable: int
    verified: int
    led: int
    untrained: int
    recovered: bool
    errors: int
    failed: int
    gave_up: int


def behaviour(session: Trajectory) -> Behaviour:
    """Return what a session does."""
    steps = list(_steps(session))
    opening = "\n".join(t.content for t in session.turns[:2] if t.role != "assistant")
    changes = [(i, *files) for i, s in enumerate(steps) if (files := _change(s, steps[:i])) and s.train]
    with_input = [(i, ins) for i, ins, _ in changes if ins]
    with_output = [(i, outs) for i, _, outs in changes if outs]
    flags = [s.train for s in steps]
    failed = [i for i, s in enumerate(steps) if _FAILED.search(s.output)]
    panicked = session.turns[-1].content.split()[:1] == ["panic"]
    return Behaviour(
        changes=len(with_input),
        looked_before=sum(any(_shows(s, ins) for s in steps[:i]) for i, ins in with_input),
        verifiable=len(with_output),
        verified=sum(any(_shows(s, outs) for s in steps[i + 1 :]) for i, outs in with_output),
        led=_led(steps, opening),
        untrained=flags.count(False),
        recovered=False in flags and True in flags[flags.index(False) :],
        errors=sum(bool(_ERROR.search(s.output)) for s in steps),
        failed=len(failed),
        gave_up=sum(panicked and i >= len(steps) - _SOON for i in failed),
    )


def rates(sessions: Sequence[Behaviour]) -> dict[str, float | int]:
    """Return the figures of several sessions: whole numbers are counts, fractions are shares of what the name says."""

    def share(part: int, whole: int) -> float:
        return round(part / whole, 4) if whole else 0.0

    n = len(sessions)
    changes, results = sum(b.changes for b in sessions), sum(b.verifiable for b in sessions)
    return {
        "changes of files": results,
        "changes with an input": changes,
        "of these looked at before": share(sum(b.looked_before for b in sessions), changes),
        "of all changes verified after": share(sum(b.verified for b in sessions), results),
        "sessions with exploration that leads somewhere": share(sum(b.led > 0 for b in sessions), n),
        "explorations that lead somewhere": sum(b.led for b in sessions),
        "sessions with a recovery": share(sum(b.recovered for b in sessions), n),
        "sessions that show an error": share(sum(b.errors > 0 for b in sessions), n),
        "errors of utilities": sum(b.failed for b in sessions),
        "of these followed by a panic within three commands": share(
            sum(b.gave_up for b in sessions), sum(b.failed for b in sessions)
        ),
        "turns that are no target": sum(b.untrained for b in sessions),
    }


def _steps(session: Trajectory) -> Iterator[Step]:
    """Yield the commands of a session but its terminal one."""
    turns = session.turns
    for i, turn in enumerate(turns):
        if turn.role == "assistant" and i + 1 < len(turns):
            yield Step(turn.content, turns[i + 1].content.removesuffix("$ "), turn.train)


def _lexed(command: str) -> list[str]:
    """Split a command into words and operators; a word that cannot be split is left as it is."""
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;()<>\n")
        lexer.whitespace_split, lexer.whitespace = True, " \t"
        return list(lexer)
    except ValueError:
        return command.split()


def _parts(command: str) -> Iterator[list[str]]:
    """Yield the simple commands of a command line."""
    part: list[str] = []
    for word in _lexed(command):
        if word in _SPLIT or set(word) <= set("|&;()\n"):
            if part:
                yield part
            part = []
        else:
            part.append(word)
    if part:
        yield part


def _change(step: Step, before: Sequence[Step]) -> tuple[set[str], set[str]] | None:
    """Return the files that a command reads and those that it changes; None for a command that only shows."""
    inputs: set[str] = set()
    outputs: set[str] = set()
    seen = {word for s in before for word in _TOKEN.findall(s.output)}
    runs = False
    for part in _parts(step.command):
        program, operands, redirected = _operands(part)
        files = {o for o in operands if _LETTER.search(o) and ("." in o or "/" in o or o in seen)}
        inputs |= set() if program in ("echo", "printf") else files
        outputs |= redirected
        if program in ("cp", "ln"):
            outputs |= set(operands[-1:])
        elif program in CHANGING or _in_place(program, part):
            outputs |= set(operands)
        elif program not in _KNOWN and not step.output.strip():
            outputs |= {f for f in files if "." in f}
        runs = runs or (program in _RUNNING and not any(program in s.command and files & _names(s) for s in before))
    if not outputs and not runs:
        return None
    outputs = {o for o in outputs if _LETTER.search(o)}
    return {i for i in inputs if i not in outputs or i in seen or i.rpartition("/")[2] in seen}, outputs


def _operands(part: list[str]) -> tuple[str, list[str], set[str]]:
    """Return a simple command's program, what it names, and the files that it redirects into."""
    words = list(part)
    while words and ("=" in words[0] or words[0] in _BEFORE):
        words.pop(0)
    program, operands, redirected = (words[0] if words else ""), [], set()
    script = program in _SCRIPTED and not {"-e", "-f"} & set(words)  # its first operand is no file
    rest = iter(words[1:])
    for word in rest:
        if _REDIRECT.match(word):
            target = next(rest, "/dev/null")
            redirected |= set() if target.startswith(("/dev/", "&")) else {target}
        elif word != "<" and not word.startswith("-"):
            if not script and _NAME.fullmatch(word):
                operands.append(word)
            script = False
    return program, operands, redirected


def _in_place(program: str, part: list[str]) -> bool:
    """Return whether a program that mostly shows is called so that it changes files."""
    if program == "sed":
        return any(word.startswith("-i") for word in part)
    if program == "tar":
        return len(part) > 1 and "t" not in part[1].partition("/")[0]
    return program == "sort" and "-o" in part


def _names(step: Step) -> set[str]:
    return set(_NAME.findall(step.command))


def _shows(step: Step, files: set[str]) -> bool:
    """Return whether a command only shows, and names one of these files or prints its name."""
    part = next(_parts(step.command), [""])
    first = part[0]
    if (first not in LOOKING and not (first == "tar" and not _in_place(first, part))) or _change(step, ()):
        return False
    said = set(_TOKEN.findall(step.command)) | (set(_TOKEN.findall(step.output)) if first in EXPLORING else set())
    names = {name for f in files for name in (f, f.rpartition("/")[2]) if name}
    folders = {f.rpartition("/")[0] for f in files} - {""}
    bare = first == "ls" and not any(_NAME.fullmatch(w) for w in _lexed(step.command)[1:])
    return bool(names & {s.removeprefix("./") for s in said} or folders & said or bare)


def _led(steps: Sequence[Step], opening: str) -> int:
    """Count the explorations that show something new which a later command uses."""
    known, led = set(_TOKEN.findall(opening)), 0
    for i, step in enumerate(steps):
        words = set(_TOKEN.findall(step.output))
        firsts = [part[0] for part in _parts(step.command)]
        searching = "grep" in firsts and re.search(r"grep (-\w*[rR]|.* -\w*[rR])", step.command)
        if EXPLORING & set(firsts) or searching or "command -v" in step.command:
            fresh = {w for w in words - known if len(w) >= _SHORTEST and _LETTER.search(w)}
            fresh -= set(_TOKEN.findall(step.command))
            later = {w for s in steps[i + 1 :] for w in _TOKEN.findall(s.command)}
            later |= {part for w in later for part in w.split("/")}
            led += bool(fresh & later or {p for w in fresh for p in w.split("/") if p not in known} & later - {""})
        known |= words | set(_TOKEN.findall(step.command))
        known |= {part for w in words for part in w.split("/")}
    return led
