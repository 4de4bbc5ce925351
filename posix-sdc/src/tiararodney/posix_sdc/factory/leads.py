"""A lead: commands any of which shows what a person has to know before the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lead:
    """One step of finding out.

    Args:
        tries: commands, each by itself enough; they use only what was shown before and what everybody knows.
        shows: words that the terminal has shown afterwards; a step whose words are known already is left out.
        always: take this step even then, since it goes somewhere.
    """

    tries: tuple[str, ...]
    shows: tuple[str, ...]
    always: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what a bundle holds of it."""
        return {"try": list(self.tries), "shows": list(self.shows)} | ({"always": True} if self.always else {})
