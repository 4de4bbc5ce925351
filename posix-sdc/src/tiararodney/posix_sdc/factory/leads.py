"""A lead: commands any of which shows what the next step needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lead:
    """One step of finding out.

    Args:
        tries: commands, any of which is enough; they use only shown facts and general knowledge.
        shows: words that the terminal has shown afterwards; a step whose words are known is skipped.
        always: take this step even then.
    """

    tries: tuple[str, ...]
    shows: tuple[str, ...]
    always: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what a bundle holds of it."""
        return {"try": list(self.tries), "shows": list(self.shows)} | ({"always": True} if self.always else {})
