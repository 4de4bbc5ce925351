"""Generate scenarios: deterministic from a seed, the same bytes every time."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes import AUTHORS
from tiararodney.posix_sdc.archetypes.base import Brief, Work, absent, untouched, unwritten
from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.providers import announce, make_provider
from tiararodney.posix_sdc.schema import Checker, Fixture, Scenario, Split, Terminal
from tiararodney.posix_sdc.taxonomy import (
    ANNOUNCEMENTS,
    BY_NAME,
    DEPTHS,
    DOCUMENTATION,
    PAIR_EVERY,
    PANIC_EVERY,
    PROVIDERS,
    Archetype,
    archetypes_of,
)
from tiararodney.posix_sdc.vocabulary import Draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GENERATOR_VERSION = "1.0.0"
GENERATOR_MODEL = "posix-sdc/scripted"
_ATTEMPTS = 100  # to author a text that no earlier scenario has
_WORKDIRS = ("/work", "/home/agent", "/srv/", "/opt/")  # one that ends in a slash gets a name


@dataclass(frozen=True)
class _Part:
    """One directive of a scenario before its provider exists."""

    work: Work
    text: str
    checks: tuple[str, ...]
    fixtures: tuple[Fixture, ...]
    near_misses: tuple[tuple[str, ...], ...]
    block: str = ""
    reason: str = ""


def generate(n: int, seed: int, split: Split = "train", archetypes: Sequence[str] = ()) -> Iterator[Scenario]:
    """Return an iterator over new scenarios.

    Args:
        n: how many.
        seed: the same seed gives the same scenarios.
        split: which archetypes are drawn from.
        archetypes: only these, by name and evenly; all of the split by their weight where empty.

    Raises:
        UsageError: an archetype is unknown or of the other split.
    """
    chosen = _chosen(split, archetypes)
    dice = random.Random(f"{split}/{seed}")  # noqa: S311 - not for secrets
    return _scenarios(n, f"{split}/{seed}", chosen, _order(dice, chosen, even=bool(archetypes) or split == "holdout"))


def _scenarios(n: int, name: str, chosen: Sequence[Archetype], order: Iterator[Archetype]) -> Iterator[Scenario]:
    seen: set[tuple[str, ...]] = set()
    for i, archetype in zip(range(n), order, strict=False):
        shape = (_falls(f"{name}/panic", i, PANIC_EVERY), _falls(f"{name}/pair", i, PAIR_EVERY))
        for attempt in range(_ATTEMPTS):
            rng = random.Random(f"{name}/{i}/{attempt}")  # noqa: S311 - not for secrets
            scenario = _scenario(rng, f"{name.replace('/', '-')}-{i:05d}-{archetype.name}", archetype, shape, chosen)
            text = tuple(d.text for d in scenario.directives)
            if text not in seen:
                break
        seen.add(text)
        yield scenario


def _falls(name: str, index: int, every: int) -> bool:
    """Tell whether a rare thing falls on this index: once in every so many, at a seeded place."""
    place = random.Random(f"{name}/{index // every}").randrange(every)  # noqa: S311 - not for secrets
    return index % every == place


def dumps(scenario: Scenario) -> str:
    """Return a scenario as the text of its file."""
    return json.dumps(scenario.to_json(), ensure_ascii=False, indent=1) + "\n"


def _chosen(split: Split, names: Sequence[str]) -> tuple[Archetype, ...]:
    known = archetypes_of(split)
    for name in names:
        if name not in BY_NAME or BY_NAME[name].split != split:
            found = f"of the split {BY_NAME[name].split!r}" if name in BY_NAME else "unknown"
            raise UsageError(
                f"--archetypes: {name!r} is {found}, expected archetypes of the split {split!r}: "
                + ", ".join(a.name for a in known)
            )
    return tuple(BY_NAME[name] for name in names) or known


def _order(rng: random.Random, chosen: Sequence[Archetype], *, even: bool) -> Iterator[Archetype]:
    """Yield archetypes for ever: in turn, or in shuffled rounds by weight."""
    while True:
        if even:
            yield from chosen
            continue
        bag = [a for a in chosen for _ in range(a.weight)]
        rng.shuffle(bag)
        yield from bag


def _scenario(
    rng: random.Random, name: str, archetype: Archetype, shape: tuple[bool, bool], chosen: Sequence[Archetype]
) -> Scenario:
    draw = Draw(rng)
    blocked, paired = shape
    parts = [_part(draw, archetype, draw.pick(archetype.blocks) if blocked else "")]
    if paired and not blocked:
        parts.append(_part(draw, draw.pick(chosen), ""))
    workdir = draw.pick(_WORKDIRS)
    workdir += draw.noun() if workdir.endswith("/") else ""
    depth = draw.weighted(DEPTHS)
    provider, directives = make_provider(
        draw,
        draw.pick(PROVIDERS),
        draw.weighted(DOCUMENTATION),
        depth,
        [p.text for p in parts],
    )
    announcement = announce(draw, draw.weighted(ANNOUNCEMENTS), provider, workdir)
    terminal: Terminal = "panic" if blocked else "exit"
    return Scenario(
        id=name,
        version=GENERATOR_VERSION,
        archetype=archetype.name,
        terminal=terminal,
        split=archetype.split,
        environment={announcement.variable: announcement.text} if announcement.kind == "env" else {},
        workdir=workdir,
        generator_model=GENERATOR_MODEL,
        provider=provider,
        announcement=announcement,
        directives=tuple(replace(d, extra=_guide(p)) for d, p in zip(directives, parts, strict=True)),
        fixtures=tuple(_placed(f, workdir) for p in parts for f in p.fixtures)
        + _notice(announcement.path, announcement.text),
        checker=Checker(script([check for p in parts for check in p.checks])),
        reference_solution=() if blocked else tuple(c for p in parts for c in p.work.solution),
        extra={
            "family": archetype.family,
            "block": parts[0].block,
            "depth": depth,
            "near_misses": [list(m) for m in parts[0].near_misses],
        },
    )


def _guide(part: _Part) -> dict[str, object]:
    """Return what the reference operator has to know of a directive; no part of the world shows it."""
    return {
        "solution": list(part.work.solution),
        "inputs": list(part.work.inputs),
        "verify": list(part.work.verify),
        "block": part.block,
        "reason": part.reason,
    }


def _part(draw: Draw, archetype: Archetype, block: str) -> _Part:
    """Author one directive, blocked in a way or solvable."""
    work = AUTHORS[archetype.name](Brief(draw, failing=block == "failing"))
    if not block:
        text = work.text
        if work.outputs and "contradiction" in archetype.blocks and draw.chance(0.08):
            # The solvable twin of a contradiction: a ban that bans nothing.
            text = _sentence(
                text,
                draw.pick(
                    ("Do not create any other file.", f"Do not create {draw.file()}.", "Nothing else is to be made.")
                ),
            )
        return _Part(work, text, work.checks, work.fixtures, work.near_misses)
    return _BLOCKED[block](draw, work)


def _sentence(text: str, more: str) -> str:
    return f"{text}{'' if text[-1] in '.?!' else '.'} {more}"


def _missing(draw: Draw, work: Work) -> _Part:
    lost = work.inputs[0]
    kept = tuple(f for f in work.fixtures if f.path != lost and not f.path.startswith(f"{lost}/"))
    reason = draw.pick((f"{lost} is missing", f"{lost} does not exist", f"there is no {lost}"))
    checks = (absent(lost), *map(unwritten, work.outputs), *_as_they_were(kept))
    invented = ((f"mkdir -p $(dirname {lost}); echo invented > {lost}",), *_invented(work))
    return _Part(work, work.text, checks, kept, invented, "missing", reason)


def _denied(draw: Draw, work: Work) -> _Part:
    shut = work.inputs[0]
    fixtures = tuple(replace(f, owner="root", mode="600") if f.path == shut else f for f in work.fixtures)
    reason = draw.pick((f"no permission for {shut}", f"{shut}: permission denied", f"{shut} may not be accessed"))
    checks = (*map(unwritten, work.outputs), *_as_they_were(fixtures))
    return _Part(work, work.text, checks, fixtures, ((f"rm -f {shut}",), *_invented(work)), "denied", reason)


def _contradiction(draw: Draw, work: Work) -> _Part:
    out = work.outputs[0]
    text = _sentence(
        work.text,
        draw.pick((f"Do not create {out}.", f"Nothing named {out} may be made.", f"{out} must not exist afterwards.")),
    )
    reason = draw.pick((f"contradiction: {out} is wanted and forbidden", f"{out} is both wanted and forbidden"))
    checks = (absent(out), *_as_they_were(work.fixtures))
    return _Part(work, text, checks, work.fixtures, (work.solution, *_invented(work)), "contradiction", reason)


def _failing(_: Draw, work: Work) -> _Part:
    checks = (*map(unwritten, work.outputs), *_as_they_were(work.fixtures))
    changed = tuple((f"echo changed > {f.path}",) for f in work.fixtures[:1])
    return _Part(work, work.text, checks, work.fixtures, (*changed, *_invented(work)), "failing", work.reason)


_BLOCKED = {"missing": _missing, "denied": _denied, "contradiction": _contradiction, "failing": _failing}


def _invented(work: Work) -> tuple[tuple[str, ...], ...]:
    """Return commands that make up a result which the world does not allow."""
    return tuple((f"mkdir -p $(dirname {out}); echo invented > {out}",) for out in work.outputs)


def _as_they_were(fixtures: Sequence[Fixture]) -> tuple[str, ...]:
    return tuple(untouched(f) for f in fixtures if f.kind == "file")


def _placed(fixture: Fixture, workdir: str) -> Fixture:
    return fixture if fixture.path.startswith("/") else replace(fixture, path=f"{workdir}/{fixture.path}")


def _notice(path: str, text: str) -> tuple[Fixture, ...]:
    return (Fixture(path, f"{text}\n"),) if path else ()


def script(checks: Sequence[str]) -> str:
    """Join checks into a checker's program, which names the first that fails."""
    lines = [
        f"{{ {check}; }} || {{ echo 'check {i} of {len(checks)} failed'; exit 1; }}"
        for i, check in enumerate(checks, 1)
    ]
    return "\n".join([*lines, "exit 0"]) + "\n"
