"""What a scenario's directives are made of: pieces of work, one after the other, up to a number of commands."""

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

_TRIES = 8  # archetypes that are asked to go on with a file before another piece of work is begun
_CHAIN = 0.7  # how often a piece of work goes on with what the last one made
_DIRECTIVES = 3  # at most in one queue


@dataclass(frozen=True)
class Piece:
    """One piece of work of a scenario, in the form it takes there.

    Args:
        archetype: its name.
        work: as its author made it.
        text: what the directive says of it.
        checks: what has to hold at the end.
        bans: those of the checks that hold whether the work is done or not.
        alone: nothing but what the directives ask for may be made in the working directory.
        chained: it begins with the file that the piece before it makes.
        fixtures: what the world holds for it.
        near_misses: of the solution, or of giving up.
        block: why it cannot be done, see `taxonomy.BLOCKS`; empty where it can.
        reason: what a person says who gives up.
        twin: what it has in common with a blocked one although it can be done.
        told: groups of words: who gives up has to name one of each.
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
    told: tuple[tuple[str, ...], ...] = ()
    bans: tuple[Check, ...] = ()
    alone: bool = False
    chained: bool = False


def piece(draw: Draw, archetype: Archetype, block: str, twists: float = 0.0, source: Source | None = None) -> Piece:
    """Author one piece of work, blocked in a way or solvable.

    Args:
        draw: source of choices.
        archetype: what kind of work.
        block: one of its blocks, empty for work that can be done.
        twists: how often a solvable piece looks like a blocked one.
        source: the file that a former piece makes and this one begins with.

    Raises:
        Unsuitable: the archetype can make nothing of the source.
    """
    warns = not block and "failing" in archetype.blocks and twists > 0 and draw.chance(twists / 2)
    work = AUTHORS[archetype.name](Request(draw, failing=block == "failing", source=source, warns=warns))
    if block:
        return _BLOCKED[block](draw, archetype.name, work)
    text, fixtures, twin = work.text, work.fixtures, "failing" if warns else ""
    bans: tuple[Check, ...] = ()
    alone = False
    if work.outputs and "contradiction" in archetype.blocks and draw.chance(0.08 + twists / 10):
        # A ban on what the work does not need.
        twin = "contradiction"
        other, alone = draw.file(), not twists and draw.chance(0.6)
        text = sentence(text, nothing_else(draw) if alone else ban(draw, other))
        bans = () if alone else (absent(other),)
    read_only = [f.path for f in fixtures if f.path in work.inputs[:1] and untouched(f) in work.checks]
    if twists and work.outputs and read_only and "denied" in archetype.blocks and draw.chance(twists / 4):
        # Somebody else's file, which may be read all the same.
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
    return Piece(name, work, work.text, checks, kept, invented, "missing", reason, told=(_names(lost), _MISSING))


def _denied(draw: Draw, name: str, work: Work) -> Piece:
    shut = work.inputs[0]
    fixtures = tuple(replace(f, owner="root", mode="600") if f.path == shut else f for f in work.fixtures)
    reason = draw.pick((f"no permission for {shut}", f"{shut}: permission denied", f"{shut} may not be accessed"))
    checks = (*_unwritten(work), *_as_they_were(fixtures))
    # A folder that only root's file is in is root's too: there nobody can remove it.
    removed = () if "/" in shut else ((f"rm -f {shut}",),)
    near_misses = (*removed, *_invented(work))
    told = (_names(shut), _DENIED)
    return Piece(name, work, work.text, checks, fixtures, near_misses, "denied", reason, told=told)


def _contradiction(draw: Draw, name: str, work: Work) -> Piece:
    out = work.outputs[0]
    text = sentence(
        work.text,
        ban(draw, out),
    )
    reason = draw.pick((f"contradiction: {out} is wanted and forbidden", f"{out} is both wanted and forbidden"))
    checks = (absent(out), *_as_they_were(work.fixtures))
    near_misses = (work.solution, *_invented(work)[:1])  # what else the work makes is not forbidden
    told = (_names(out), _CONTRADICTION)
    return Piece(name, work, text, checks, work.fixtures, near_misses, "contradiction", reason, told=told)


def _failing(_: Draw, name: str, work: Work) -> Piece:
    kept = tuple(f for f in work.fixtures if f.path not in work.may_change)
    checks = (*_unwritten(work), *_as_they_were(kept), *work.guards)
    changed = tuple((f"echo changed > {f.path}",) for f in kept[:1])
    near_misses = (*changed, *_invented(work))
    told = (tuple({w for w in re.findall(r"[a-z]+", work.reason.lower()) if len(w) >= _TELLING} | set(_FAILING)),)
    return Piece(name, work, work.text, checks, work.fixtures, near_misses, "failing", work.reason, told=told)


_BLOCKED: dict[str, Callable[[Draw, str, Work], Piece]] = {
    "missing": _missing,
    "denied": _denied,
    "contradiction": _contradiction,
    "failing": _failing,
}


# Words of which a reason has to have one, whatever else it says. In lower case, as parts of words.
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
    """Return what a reason may call a file: its path's last part, with or without the extension."""
    name = posixpath.basename(path)
    stem = name.partition(".")[0]
    return tuple(dict.fromkeys((name.lower(), stem.lower())))


def _unwritten(work: Work) -> tuple[Check, ...]:
    """Return checks that no result was made up; an output that is a fixture already has its own check."""
    given = {f.path for f in work.fixtures}
    return tuple(unwritten(out) for out in work.outputs if out not in given)


def _invented(work: Work) -> tuple[tuple[str, ...], ...]:
    """Return commands that make up a result which the world does not allow."""
    return tuple((f"mkdir -p $(dirname {out}); echo invented > {out}",) for out in work.outputs)


def _as_they_were(fixtures: Sequence[Fixture]) -> tuple[Check, ...]:
    return tuple(untouched(f) for f in fixtures if f.kind == "file" and not f.path.startswith("/"))


# --------------------------------------------------------------------------------------------------------- pieces


def grow(
    draw: Draw, primary: Archetype, block: str, commands: int, pool: Sequence[Archetype], twists: float
) -> list[list[Piece]]:
    """Author directives that together take this many commands.

    A piece of work goes on with the file that the last one made, where its archetype can, or stands by itself.

    Args:
        draw: source of choices.
        primary: the archetype that the scenario is named after.
        block: how this one is blocked, empty where it is not.
        commands: of work; at least the primary archetype's own.
        pool: archetypes that the rest is drawn from.
        twists: see `piece`.

    Returns:
        Directives, each as its pieces in the order in which they are done.
    """
    first = piece(draw, primary, block, twists)
    before: list[Piece] = []
    after = [first]
    left = commands - len(first.work.solution)
    tools = [a for a in pool if a.family == TOOLS]
    due = bool(tools) and primary.family != TOOLS and draw.chance(TOOL_SHARE)  # a utility is still to come
    everything = pool
    while left > 0:
        pool = tools if due and (left == 1 or draw.chance(0.4)) else everything
        due = due and pool is everything
        # Work that has nothing to do with a blocked piece may come before it as well as after.
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
    """Return a piece that says in which order its result has to be, where the next piece depends on that."""
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
    """Return the words of a directive of one or several pieces; of several, also where to stop."""
    texts = [p.text for p in pieces]
    return voiced(draw, texts, where_to_stop(draw) if len(texts) > 1 else "")


def with_more(draw: Draw, text: str) -> str:
    """Return the words of the first of several directives, with what holds for all of them."""
    more = where_to_stop(draw, more=True)
    if "\n\n" in text:  # a letter
        return f"{text}\n{draw.pick(('PS: ', 'P.S. ', 'PS '))}{more}"
    return f"{text}\n{more}" if "\n" in text else sentence(text, more)
