"""Generate scenarios: deterministic from a seed, the same bytes every time."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.factory.announcements import announce, start_folder
from tiararodney.posix_sdc.factory.checks import nothing_else, script
from tiararodney.posix_sdc.factory.compose import Piece, directive_text, grow, piece, with_more
from tiararodney.posix_sdc.factory.herrings import Decoys, mislead, mix
from tiararodney.posix_sdc.factory.places import Place, choose
from tiararodney.posix_sdc.factory.providers.design import make_provider
from tiararodney.posix_sdc.factory.providers.programs import Entry
from tiararodney.posix_sdc.factory.taxonomy import (
    BY_NAME,
    COMMANDS,
    COURSES,
    FULL,
    HELD_OUT,
    PAIR_EVERY,
    PANIC_EVERY,
    Archetype,
    Course,
    ProviderKind,
    announcements_of,
    archetypes_of,
    providers_of,
)
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.records.schema import Checker, Directive, Scenario, Split, Terminal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

GENERATOR_VERSION = "1.3.2"  # raised whenever the same seed gives other worlds
GENERATOR_MODEL = "posix-sdc/scripted"
_ATTEMPTS = 100  # to author a text that no earlier scenario has
_WORKDIRS = ("/work", "/home/agent", "/srv/", "/opt/")  # one that ends in a slash gets a name
_ELSEWHERE = 0.6  # times a course's twists: how often the work lies elsewhere than where the session begins
_NEAR_MISSES = 8  # of one scenario


@dataclass(frozen=True)
class _Plan:
    """What all scenarios of a run have in common."""

    name: str
    course: Course
    split: Split
    chosen: tuple[Archetype, ...]
    providers: tuple[ProviderKind, ...]
    announcements: Mapping[str, int]
    commands: Mapping[int, int]


def generate(
    n: int,
    seed: int,
    split: Split = "train",
    archetypes: Sequence[str] = (),
    course: str = FULL.name,
    commands: tuple[int, int] = COMMANDS,
    held_out: Collection[str] = HELD_OUT,
) -> Iterator[Scenario]:
    """Return an iterator over new scenarios.

    Args:
        n: how many.
        seed: the same seed gives the same scenarios.
        split: which archetypes are drawn from.
        archetypes: only these, by name and evenly; all of the split and course, by their weight, where empty.
        course: ``full``, every value of every axis, or ``first``, short and plain worlds.
        commands: lowest and highest number of commands of work, where the course varies it.
        held_out: axes of `HELD_OUT` on which a holdout scenario takes what training never shows; on the others it is
            like a training scenario. It says nothing to the split ``train``.

    Raises:
        UsageError: an archetype is unknown or of the other split, the course unknown, or it has no such worlds.
    """
    if course not in COURSES:
        raise UsageError(f"--course: found {course!r}, expected one of {', '.join(COURSES)}.")
    low, high = commands
    wanted = {n: share for n, share in COURSES[course].commands.items() if low <= n <= high}
    if commands != COMMANDS and not COURSES[course].commands:
        raise UsageError(
            f"--commands: the course {course!r} does not vary them; leave it out, or choose --course {FULL.name}."
        )
    if COURSES[course].commands and not wanted:
        raise UsageError(f"--commands: found {low}-{high}, expected LOW-HIGH between {COMMANDS[0]} and {COMMANDS[1]}.")
    unknown = sorted(set(held_out) - set(HELD_OUT))
    if unknown or not held_out:
        raise UsageError(
            f"--held-out: found {', '.join(unknown) or 'nothing'}, expected some of {', '.join(HELD_OUT)}."
        )
    chosen = archetypes_named(split, archetypes, COURSES[course], held_out)
    plan = _Plan(
        f"{split}/{seed}",
        COURSES[course],
        split,
        chosen,
        providers_of(COURSES[course], split, held_out),
        announcements_of(COURSES[course], split, held_out),
        wanted,
    )
    dice = random.Random(plan.name)  # noqa: S311 - not for secrets
    even = bool(archetypes) or split == "holdout"
    return _scenarios(n, plan, _order(dice, chosen, even=even, weighted=not plan.course.commands))


def _scenarios(n: int, plan: _Plan, order: Iterator[Archetype]) -> Iterator[Scenario]:
    seen: set[tuple[str, ...]] = set()
    for i, archetype in zip(range(n), order, strict=False):
        blocked, paired = _falls(f"{plan.name}/panic", i, PANIC_EVERY), _falls(f"{plan.name}/pair", i, PAIR_EVERY)
        for attempt in range(_ATTEMPTS):
            draw = Draw(random.Random(f"{plan.name}/{i}/{attempt}"))  # noqa: S311 - not for secrets
            directives = _directives(draw, plan, archetype, blocked=blocked, paired=paired)
            text = tuple(piece.text for pieces in directives for piece in pieces)
            if text not in seen:
                break
        seen.add(text)
        yield _scenario(draw, plan, f"{plan.name.replace('/', '-')}-{i:05d}-{archetype.name}", directives)


def _falls(name: str, index: int, every: int) -> bool:
    """Return whether a rare case falls on this index: once per block of this many, at a seeded position."""
    place = random.Random(f"{name}/{index // every}").randrange(every)  # noqa: S311 - not for secrets
    return index % every == place


def dumps(scenario: Scenario) -> str:
    """Return a scenario as the text of its file."""
    return json.dumps(scenario.to_json(), ensure_ascii=False, indent=1) + "\n"


def archetypes_named(
    split: Split, names: Sequence[str], course: Course = FULL, held_out: Collection[str] = HELD_OUT
) -> tuple[Archetype, ...]:
    """Return the archetypes that are drawn from.

    Args:
        split: which they have to belong to.
        names: archetypes, families or patterns (``text_*``) that are wanted; empty for all that the course has.
        course: says which archetypes it has.
        held_out: axes on which a holdout scenario takes what training never shows.

    Raises:
        UsageError: a name is unknown or of the other split.
    """
    known = archetypes_of(split, held_out)
    chosen: dict[str, Archetype] = {}
    for name in names:
        found = {a.name: a for a in known if fnmatchcase(a.name, name) or a.family == name}
        if not found:
            other = next((a.split for a in BY_NAME.values() if fnmatchcase(a.name, name) or a.family == name), "")
            known_as = f"of the split {other!r}" if other else "unknown"
            raise UsageError(
                f"--archetypes: {name!r} is {known_as}, expected archetypes or families of the split {split!r}: "
                + ", ".join(a.name for a in known)
            )
        chosen |= found
    return tuple(chosen.values()) or tuple(a for a in known if course.commands or a.weight)


def _order(rng: random.Random, chosen: Sequence[Archetype], *, even: bool, weighted: bool) -> Iterator[Archetype]:
    """Yield archetypes for ever: in turn, or in shuffled rounds, by weight or once each."""
    while True:
        if even:
            yield from chosen
            continue
        bag = [a for a in chosen for _ in range(a.weight if weighted else 1)]
        rng.shuffle(bag)
        yield from bag


# -------------------------------------------------------------------------------------------------- one scenario


def _directives(draw: Draw, plan: _Plan, archetype: Archetype, *, blocked: bool, paired: bool) -> list[list[Piece]]:
    block = draw.pick(archetype.blocks) if blocked else ""
    if plan.commands:
        n = draw.weighted_number(plan.commands)
        return grow(draw, archetype, block, n, plan.chosen, plan.course.twists)
    directives = [[piece(draw, archetype, block)]]
    if paired and not blocked:
        directives.append([piece(draw, draw.pick(plan.chosen), "")])
    return directives


def _scenario(draw: Draw, plan: _Plan, name: str, directives: Sequence[Sequence[Piece]]) -> Scenario:
    course = plan.course
    pieces = [p for part in directives for p in part]
    stuck = [p for p in pieces if p.block]
    archetype = BY_NAME[name.rpartition("-")[2]]
    decoys = mislead(draw, plan.chosen, course)
    notice = draw.weighted(plan.announcements)
    workdir = start_folder(draw, notice) or draw.pick(_WORKDIRS)
    workdir += draw.noun() if workdir.endswith("/") else ""
    place = choose(draw, workdir, directives, course.twists * _ELSEWHERE)
    depth = draw.weighted(course.depths)
    kind = draw.pick(plan.providers)
    documentation = draw.weighted(course.documentation)
    texts = [place.text(draw, directive_text(draw, part)) for part in directives]
    if len(texts) > 1:
        texts[0] = with_more(draw, texts[0])
    entries = [Entry(text) for text in texts]
    provider, shown = make_provider(draw, kind, documentation, depth, mix(draw, entries, decoys.entries))
    announced = announce(draw, notice, provider, workdir)
    terminal: Terminal = "panic" if stuck else "exit"
    fixtures = [f for p in pieces for f in p.fixtures]
    # Who cannot go on has done what comes before, and may have done what comes after.
    due = pieces[: pieces.index(stuck[0])] if stuck else pieces
    checks = [check for p in (*due, *stuck) for check in p.checks]
    checks += [check for p in pieces if p not in due and p not in stuck for check in p.bans]
    probes = [p.work.probe for p in due if p.work.probe]
    if any(p.alone for p in pieces):
        here = [f.path.removeprefix(f"{place.path}/") for f in (*fixtures, *decoys.fixtures, *announced.fixtures)]
        checks.append(nothing_else([*here, *(path for p in pieces for path in (*p.work.outputs, *p.work.leaves))]))
    answers: dict[str, Any] = {"near_misses": [[*place.into(), *near] for near in _near_misses(pieces, stuck, decoys)]}
    if stuck:
        blocked = next(d for d, part in zip(shown, directives, strict=True) if stuck[0] in part)
        answers |= {"reason": [list(words) for words in stuck[0].must_name], "blocked": blocked.id}
    return Scenario(
        id=name,
        version=GENERATOR_VERSION,
        archetype=archetype.name,
        terminal=terminal,
        split=plan.split,
        environment=announced.environment,
        workdir=workdir,
        generator_model=GENERATOR_MODEL,
        provider=replace(provider, extra={**provider.extra, "herrings": list(decoys.kinds)}),
        announcement=announced.announcement,
        directives=tuple(_guided(d, part, course, place) for d, part in zip(shown, directives, strict=True)),
        fixtures=(*place.folder(), *map(place.placed, (*fixtures, *decoys.fixtures)), *announced.fixtures),
        checker=Checker(
            script([*checks, *decoys.checks], place.into()),
            probe="\n".join((*place.into(), *probes)) if probes else "",
            extra=answers,
        ),
        reference_solution=(*place.into(), *(c for p in due for c in p.work.solution)) if due else (),
    )


def _near_misses(pieces: Sequence[Piece], stuck: Sequence[Piece], decoys: Decoys) -> list[list[str]]:
    """Return commands that nearly fulfil a scenario: all work but a near miss, or all of it and a herring besides."""
    whole = [c for p in pieces for c in p.work.solution]
    if stuck:
        due = pieces[: pieces.index(stuck[0])]
        before = [c for p in due for c in p.work.solution]
        short = [[c for p in due[:-1] for c in p.work.solution]] if due else []
        return [*short, *([*before, *m] for p in stuck for m in p.near_misses)]
    out = []
    for at in sorted({0, len(pieces) - 1}):
        before = [c for p in pieces[:at] for c in p.work.solution]
        rest = [c for p in pieces[at + 1 :] for c in p.work.solution]
        out += [[*before, *m, *rest] for m in pieces[at].near_misses[: _NEAR_MISSES // 2]]
    if len(pieces) > 1:
        out.append([c for p in pieces[:-1] for c in p.work.solution])
    return [*out[:_NEAR_MISSES], *([*whole, *following] for following in decoys.followings)]


def _guided(directive: Directive, pieces: Sequence[Piece], course: Course, place: Place) -> Directive:
    """Add what the reference operator has to know of a directive; no part of the world shows it."""
    works = [
        {
            "archetype": p.archetype,
            "solution": list(p.work.solution),
            "ways": [list(way) for way in p.work.ways] if course.twists else [],
            "inputs": list(p.work.inputs),
            "outputs": list(p.work.outputs),
            "verify": list(p.work.verify),
            "learn": [lead.to_json() for lead in p.work.learn],
            "block": p.block,
            "reason": p.reason,
            "twin": p.twin,
            "chained": p.chained,
        }
        for p in pieces
    ]
    level = sum(len(p.work.solution) for p in pieces)
    extra = {"level": level, "variety": course.twists, "works": works, **place.guide(pieces)}
    return replace(directive, extra=extra)
