"""What a teacher is asked for: assignments drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.taxonomy import FULL, PANIC_EVERY, providers_of
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.records.schema import ANNOUNCEMENT_KINDS, DOCUMENTATION_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiararodney.posix_sdc.factory.taxonomy import Archetype
    from tiararodney.posix_sdc.records.schema import Split


@dataclass(frozen=True)
class Assignment:
    """What the model is asked for.

    Args:
        id: of the scenario to be.
        archetype: the kind of work.
        provider: the kind of provider.
        announcement: its kind.
        documentation: where the provider explains itself.
        workdir: where the session starts.
        block: why the work cannot be done, empty where it can.
        words: invented names, so that no two worlds share theirs.
    """

    id: str
    archetype: Archetype
    provider: str
    announcement: str
    documentation: str
    workdir: str
    block: str
    words: tuple[str, ...]


def assignments(n: int, seed: int, split: Split, archetypes: Sequence[Archetype]) -> Iterator[Assignment]:
    """Yield what a model is asked for, the same for the same seed.

    Args:
        n: how many.
        seed: of all choices.
        split: goes into the ids.
        archetypes: taken in turn.
    """
    for i in range(n):
        draw = Draw(random.Random(f"teacher/{split}/{seed}/{i}"))  # noqa: S311 - not for secrets
        archetype = archetypes[i % len(archetypes)]
        blocked = bool(archetype.blocks) and draw.chance(1 / PANIC_EVERY)
        yield Assignment(
            id=f"teacher-{split}-{seed}-{i:05d}-{archetype.name}",
            archetype=archetype,
            provider=draw.pick(providers_of(FULL, split)).name,
            announcement=draw.pick(ANNOUNCEMENT_KINDS),
            documentation=draw.pick(DOCUMENTATION_KINDS),
            workdir=f"/srv/{draw.noun()}",
            block=draw.pick(archetype.blocks) if blocked else "",
            words=(draw.program(), *(draw.invented() for _ in range(3)), *draw.nouns(6)),
        )
