"""Text that spells a control token: found, and broken up under the policy ``escape``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.sekft.render.tokens import Tokenizer

ESCAPE = "\u200b"
"""What the policy ``escape`` inserts after the first character of a control token's text: a zero-width space."""


def control_pattern(tok: Tokenizer) -> re.Pattern[str]:
    """Return a pattern that matches the text of any control token, the longest first."""
    return _pattern(tuple(tok.control_tokens))


def escaped(token: str) -> str:
    """Return a control token's text broken up, so that no tokenizer takes it for the token."""
    return token[:1] + ESCAPE + token[1:]


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    # An empty alternation would match everywhere; no token must match nowhere.
    return re.compile("|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)) or r"(?!)")
