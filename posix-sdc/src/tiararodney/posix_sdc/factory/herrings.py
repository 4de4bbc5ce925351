"""Red herrings: misleading content of a world, and the checks that nobody followed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import Check, text_file, untouched, word_lines
from tiararodney.posix_sdc.factory.compose import Piece, piece
from tiararodney.posix_sdc.factory.providers.design import make_provider
from tiararodney.posix_sdc.factory.providers.programs import Entry
from tiararodney.posix_sdc.factory.taxonomy import archetypes_of
from tiararodney.posix_sdc.factory.vocabulary import PEOPLE
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.taxonomy import Archetype, Course
    from tiararodney.posix_sdc.factory.vocabulary import Draw

HERRINGS = ("files", "done", "other", "stale")
_WHOSE = {
    "done": "the entry that is done already",
    "other": "the entry of another account",
    "stale": "what the retired provider says",
}
_HEAVY = "process"  # a family whose worlds are too dear to be only looked at
_MOST_STEPS = 2


@dataclass(frozen=True)
class Decoys:
    """Red herrings of one world.

    Args:
        kinds: of `HERRINGS`, those that are in it.
        entries: of the provider, not to be done.
        fixtures: files, relative to the working directory or absolute.
        checks: that nobody followed.
        followings: commands that follow one.
    """

    kinds: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    fixtures: tuple[Fixture, ...] = ()
    checks: tuple[Check, ...] = ()
    followings: tuple[tuple[str, ...], ...] = ()


def mislead(draw: Draw, pool: Sequence[Archetype], course: Course) -> Decoys:
    """Draw the red herrings of one world, which may be none.

    Args:
        draw: source of choices.
        pool: archetypes of the misleading work.
        course: how often, and what a retired provider may look like.
    """
    if not course.twists or not draw.chance(course.twists):
        return Decoys()
    kinds = tuple(kind for kind in HERRINGS if draw.chance(0.4)) or ("files",)
    light = _light(pool) or _light(archetypes_of(pool[0].split))
    entries: list[Entry] = []
    fixtures: list[Fixture] = []
    checks: list[Check] = []
    followings: list[tuple[str, ...]] = []
    for kind in kinds:
        if kind == "files":
            files = [
                text_file(draw.file("txt", "log", "old", "csv"), word_lines(draw, 1, 4))
                for _ in range(draw.number(1, 4))
            ]
            fixtures += files
            checks += map(untouched, files)
            followings.append((f"rm {files[0].path}",))
            continue
        decoy = piece(draw, draw.pick(light), "")
        fixtures += decoy.fixtures
        checks.append(_not_done(decoy, kind))
        followings.append(decoy.work.solution)
        if kind == "stale":
            fixtures += _retired(draw, course, decoy)
        else:
            owner = "agent" if kind == "done" else draw.pick(PEOPLE)
            entries.append(Entry(decoy.text, owner, "done" if kind == "done" else "open"))
    return Decoys(kinds, tuple(entries), tuple(fixtures), tuple(checks), tuple(followings))


def _light(pool: Sequence[Archetype]) -> list[Archetype]:
    return [a for a in pool if a.family != _HEAVY and a.steps <= _MOST_STEPS]


def _not_done(decoy: Piece, kind: str) -> Check:
    done = " && ".join(f"( {check.test} )" for check in decoy.checks)
    return Check(f"{_WHOSE[kind]} was left alone", f"! ( {done} )", decoy.work.solution)


def _retired(draw: Draw, course: Course, decoy: Piece) -> tuple[Fixture, ...]:
    """Return an outdated announcement and the provider it names, which still works."""
    kind = draw.pick(course.providers[:7])
    provider, _ = make_provider(draw, kind, draw.weighted(course.documentation), "line", [Entry(decoy.text)])
    day = f"{draw.number(1, 28)} {draw.pick(('March', 'April', 'May', 'June'))}"
    note = draw.pick(
        (
            f"{provider.name} was retired on {day}: what it lists is void.",
            f"Out of date since {day}. {provider.name} is kept for the record only; do nothing that it says.",
            f"(Withdrawn on {day}: entries of {provider.name} are no longer to be done.)",
        )
    )
    text = f"Directives for this session are kept by {provider.name}.\n{note}\n"
    path = draw.pick(("NOTICE.old", "README.old", "NOTICE.1", "old-notice.txt", "ANNOUNCEMENT.bak"))
    return (Fixture(path, text), *provider.files)


def mix(draw: Draw, entries: Sequence[Entry], more: Sequence[Entry]) -> list[Entry]:
    """Return both kinds of entries in one list; those of the first keep their order."""
    out = list(entries)
    for entry in more:
        out.insert(draw.number(0, len(out)), entry)
    return out
