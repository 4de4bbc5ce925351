"""Compose directives from pieces of work, up to a number of commands."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes import AUTHORS, FOLLOWS
from tiararodney.posix_sdc.factory.checks import Check, Request, Source, Unsuitable, Work, absent, untouched, unwritten
from tiararodney.posix_sdc.factory.taxonomy import TOOL_SHARE
from tiararodney.posix_sdc.factory.voices import ban, nothing_else, sentence, voiced, where_to_stop
from tiararodney.posix_sdc.records.axes import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.factory.taxonomy import Archetype
    from tiararodney.posix_sdc.factory.vocabulary import Draw
    from tiararodney.posix_sdc.records.schema import Fixture

_TRIES = 8  # archetypes tried as the next link of a chain before an independent piece is drawn
_CHAIN = 0.7  # probability that a piece starts from the previous result
_DIRECTIVES = 3  # at most in one queue


@dataclass(frozen=True)
class Piece:
    """One piece of work of a scenario, in the form it takes there.

    Args:
        archetype: its name.
        work: as its author made it.
        text: its sentence in the directive.
        checks: what must hold at the end.
        bans: those of the checks that hold whether or not the work is done.
        alone: nothing else may be created in the working directory.
        chained: it starts from the file that the piece before it creates.
        fixtures: its files in the world.
        near_misses: of the solution, or of giving up.
        block: why it cannot be done, see `taxonomy.BLOCKS`; empty if it can.
        reason: what a person says when giving up.
        twin: the block that it resembles although it can be done.
        must_name: groups of words; a reason to panic must contain one of each.
    """

    archetype: str
    work: Work
    text: str
    checks: tuple[Check, ...]
    fixtures: tuple[Fixture, ...]
    near_misses: tuple[tuple[str, ...], ...]
    block: str = ""
    reason: str = ""
    twin: str = ""
    must_name: tuple[tuple[str, ...], ...] = ()
    bans: tuple[Check, ...] = ()
    alone: bool = False
    chained: bool = False


def piece(draw: Draw, archetype: Archetype, block: str, twists: float = 0.0, source: Source | None = None) -> Piece:
    """Author one piece of work, blocked in a way or solvable.

    Args:
        draw: source of choices.
        archetype: what kind of work.
        block: one of its blocks, empty for work that can be done.
        twists: how often a solvable piece resembles a blocked one.
        source: the file of an earlier piece that this one starts from.

    Raises:
        Unsuitable: the archetype cannot use the source.
    """
    warns = not block and "failing" in archetype.blocks and twists > 0 and draw.chance(twists / 2)
    work = AUTHORS[archetype.name](Request(draw, failing=block == "failing", source=source, warns=warns))
    if block:
        return _BLOCKED[block](draw, archetype.name, work)
    text, fixtures, twin = work.text, work.fixtures, "failing" if warns else ""
    bans: tuple[Check, ...] = ()
    alone = False
    if work.outputs and "contradiction" in archetype.blocks and draw.chance(0.08 + twists / 10):
        # A ban on a file that the work does not need.
        twin = "contradiction"
        other, alone = draw.file(), not twists and draw.chance(0.6)
        text = sentence(text, nothing_else(draw) if alone else ban(draw, other))
        bans = () if alone else (absent(other),)
    read_only = [f.path for f in fixtures if f.path in work.inputs[:1] and untouched(f) in work.checks]
    if twists and work.outputs and read_only and "denied" in archetype.blocks and draw.chance(twists / 4):
        # Another account's file that is readable.
        twin = "denied"
        fixtures = tuple(replace(f, owner="root") if f.path in read_only else f for f in fixtures)
    return Piece(
        archetype.name,
        work,
        text,
        (*work.checks, *bans),
        fixtures,
        work.near_misses,
        twin=twin,
        bans=bans,
        alone=alone,
        chained=source is not None,
    )


# -------------------------------------------------------------------------------------------------------- blocks


def _missing(draw: Draw, name: str, work: Work) -> Piece:
    lost = work.inputs[0]
    kept = tuple(f for f in work.fixtures if f.path != lost and not f.path.startswith(f"{lost}/"))
    reason = draw.pick((f"{lost} is missing", f"{lost} does not exist", f"there is no {lost}"))
    checks = (absent(lost), *_unwritten(work), *_as_they_were(kept))
    invented = ((f"mkdir -p $(dirname {lost}); echo invented > {lost}",), *_invented(work))
    return Piece(name, work, work.text, checks, kept, invented, "missing", reason, must_name=(_names(lost), _MISSING))


def _denied(draw: Draw, name: str, work: Work) -> Piece:
    shut = work.inputs[0]
    fixtures = tuple(replace(f, owner="root", mode="600") if f.path == shut else f for f in work.fixtures)
    reason = draw.pick((f"no permission for {shut}", f"{shut}: permission denied", f"{shut} may not be accessed"))
    checks = (*_unwritten(work), *_as_they_were(fixtures))
    # A folder that only root's file is in is root's too: there nobody can remove it.
    removed = () if "/" in shut else ((f"rm -f {shut}",),)
    near_misses = (*removed, *_invented(work))
    must_name = (_names(shut), _DENIED)
    return Piece(name, work, work.text, checks, fixtures, near_misses, "denied", reason, must_name=must_name)


def _contradiction(draw: Draw, name: str, work: Work) -> Piece:
    out = work.outputs[0]
    text = sentence(
        work.text,
        ban(draw, out),
    )
    reason = draw.pick((f"contradiction: {out} is wanted and forbidden", f"{out} is both wanted and forbidden"))
    checks = (absent(out), *_as_they_were(work.fixtures))
    near_misses = (work.solution, *_invented(work)[:1])  # what else the work makes is not forbidden
    must_name = (_names(out), _CONTRADICTION)
    return Piece(name, work, text, checks, work.fixtures, near_misses, "contradiction", reason, must_name=must_name)


def _failing(_: Draw, name: str, work: Work) -> Piece:
    kept = tuple(f for f in work.fixtures if f.path not in work.may_change)
    checks = (*_unwritten(work), *_as_they_were(kept), *work.guards)
    changed = tuple((f"echo changed > {f.path}",) for f in kept[:1])
    near_misses = (*changed, *_invented(work))
    said = {w for w in re.findall(r"[a-z]+", work.reason.lower()) if len(w) >= _TELLING}
    must_name = (tuple(sorted(said | set(_FAILING))),)
    return Piece(name, work, work.text, checks, work.fixtures, near_misses, "failing", work.reason, must_name=must_name)


_BLOCKED: dict[str, Callable[[Draw, str, Work], Piece]] = {
    "missing": _missing,
    "denied": _denied,
    "contradiction": _contradiction,
    "failing": _failing,
}


# A reason must contain one of these, in lower case, also as part of a word.
_MISSING = (
    "missing", "not exist", "n't exist", "no such", "not found", "nowhere", "absent", "there is no", "there's no",
    "cannot find", "can't find", "could not find", "couldn't find", "not there", "isn't there", "n't there", "gone",
    "not available", "unavailable", "nonexistent", "non-existent", "not present", "lost", "without", "lack", "no file",
    "no folder", "no directory", "not in ",
)  # fmt: skip
_DENIED = (
    "denied", "permission", "not permitted", "forbid", "unreadable", "not readable", "n't read", "not read", "may not",
    "cannot", "can't", "no access", "access", "not allowed", "n't allowed", "root", "no right", "owned by", "protected",
    "privilege", "refused", "not mine",
)  # fmt: skip
_CONTRADICTION = (
    "contradict", "forbid", "both", "conflict", "inconsistent", "incompatible", "impossible", "ban", "not allowed",
    "must not", "may not", "at once", "same time", "not to be", "prohibit", "paradox", "rules out", "yet", "opposite",
)  # fmt: skip
_FAILING = ("fail", "error", "refus", "does not work", "doesn't work", "exits with", "exit status", "cannot be built")
_TELLING = 5  # letters of a word in a program's message that says something


def _names(path: str) -> tuple[str, ...]:
    """Return the names a reason may use for a file: the last part of its path, with or without extension."""
    name = posixpath.basename(path)
    stem = name.partition(".")[0]
    return tuple(dict.fromkeys((name.lower(), stem.lower())))


def _unwritten(work: Work) -> tuple[Check, ...]:
    """Return checks that no result was made up; outputs that are fixtures have their own checks."""
    given = {f.path for f in work.fixtures}
    return tuple(unwritten(out) for out in work.outputs if out not in given)


def _invented(work: Work) -> tuple[tuple[str, ...], ...]:
    """Return commands that make up a result."""
    return tuple((f"mkdir -p $(dirname {out}); echo invented > {out}",) for out in work.outputs)


def _as_they_were(fixtures: Sequence[Fixture]) -> tuple[Check, ...]:
    return tuple(untouched(f) for f in fixtures if f.kind == "file" and not f.path.startswith("/"))


# --------------------------------------------------------------------------------------------------------- pieces


def grow(
    draw: Draw, primary: Archetype, block: str, commands: int, pool: Sequence[Archetype], twists: float
) -> list[list[Piece]]:
    """Author directives that together take this many commands.

    A piece starts from the previous result if its archetype can use it; otherwise it is independent.

    Args:
        draw: source of choices.
        primary: the archetype that the scenario is named after.
        block: how this one is blocked, empty if it is not.
        commands: of work; at least as many as the primary archetype takes.
        pool: archetypes for the rest.
        twists: see `piece`.

    Returns:
        Directives, each as a list of its pieces in order.
    """
    first = piece(draw, primary, block, twists)
    before: list[Piece] = []
    after = [first]
    left = commands - len(first.work.solution)
    tools = [a for a in pool if a.family == TOOLS]
    due = bool(tools) and primary.family != TOOLS and draw.chance(TOOL_SHARE)  # an invented utility has yet to be drawn
    everything = pool
    while left > 0:
        pool = tools if due and (left == 1 or draw.chance(0.4)) else everything
        due = due and pool is everything
        # Independent work may come before a blocked piece as well as after it.
        if block and draw.chance(0.5):
            before.append(_by_itself(draw, left, pool, twists))
            left -= len(before[-1].work.solution)
        else:
            after.append(_next(draw, after[-1], left, pool, twists))
            if after[-1].chained:
                after[-2] = _in_order(after[-2])
            left -= len(after[-1].work.solution)
    return _divided(draw, [*before, *after])


def _next(draw: Draw, last: Piece, left: int, pool: Sequence[Archetype], twists: float) -> Piece:
    if last.work.result is not None and not last.block and draw.chance(_CHAIN):
        followers = [a for a in pool if a.name in FOLLOWS and a.name != last.archetype]
        for archetype in draw.rng.sample(followers, min(_TRIES, len(followers))):
            try:
                return piece(draw, archetype, "", twists, last.work.result)
            except Unsuitable:
                continue
    return _by_itself(draw, left, pool, twists)


def _in_order(last: Piece) -> Piece:
    """Return the piece with a sentence on the order of its result, since the next piece depends on it."""
    order = last.work.result.order if last.work.result else ""
    return replace(last, text=sentence(last.text, order)) if order else last


def _by_itself(draw: Draw, left: int, pool: Sequence[Archetype], twists: float) -> Piece:
    fitting = [a for a in pool if a.steps <= left] or [min(pool, key=lambda a: a.steps)]
    return piece(draw, draw.pick(fitting), "", twists)


def _divided(draw: Draw, pieces: list[Piece]) -> list[list[Piece]]:
    """Deal pieces, in their order, into directives."""
    n = draw.number(1, min(_DIRECTIVES, len(pieces)))
    cuts = sorted(draw.numbers(n - 1, 1, len(pieces) - 1)) if n > 1 else []
    return [pieces[a:b] for a, b in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]


def directive_text(draw: Draw, pieces: Sequence[Piece]) -> str:
    """Return the text of a directive; with several pieces it also says where to stop."""
    texts = [p.text for p in pieces]
    return voiced(draw, texts, where_to_stop(draw) if len(texts) > 1 else "")


def with_more(draw: Draw, text: str) -> str:
    """Return the text of the first of several directives, with a sentence that applies to all of them."""
    more = where_to_stop(draw, more=True)
    if "\n\n" in text:  # a letter
        return f"{text}\n{draw.pick(('PS: ', 'P.S. ', 'PS '))}{more}"
    return f"{text}\n{more}" if "\n" in text else sentence(text, more)
