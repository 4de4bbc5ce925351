"""A session shown in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.sekft.render.preview import Run, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.render import Example, Tokenizer
    from tiararodney.sekft.trajectories import Session


@dataclass(frozen=True)
class Shown:
    """A session for people.

    Args:
        name: its id.
        origin: its archetype, file and line.
        examples: the runs of each of its examples.
    """

    name: str
    origin: str
    examples: tuple[tuple[Run, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(example[-1].end for example in self.examples)

    @property
    def trained(self) -> int:
        """Trained tokens of all examples."""
        return sum(run.end - run.start for example in self.examples for run in example if run.kind == "trained")


def show(tok: Tokenizer, session: Session, examples: Sequence[Example]) -> Shown:
    """Return a session with its mask."""
    origin = "  ".join(text for text in (session.archetype, session.source) if text)
    return Shown(session.id or "(no id)", origin, tuple(tuple(runs(tok, e)) for e in examples))
