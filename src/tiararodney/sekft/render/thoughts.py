"""The marks between which reasoning models think (``<think>``), as chat templates write them."""

from __future__ import annotations

import re

_NAMES = r"(?:think|thinking|thought|reasoning)"
_OPENER = rf"(?:<(?:\w+:)?{_NAMES}>|\[THINK\]|<\|START_THINKING\|>|◁think▷|<\|channel>thought)"  # the last is Gemma 4's
_CLOSER = rf"(?:</(?:\w+:)?{_NAMES}>|\[/THINK\]|<\|END_THINKING\|>|◁/think▷|<channel\|>)"
_OPEN = re.compile(rf"{_OPENER}\s*\Z")
# A closing mark alone counts: DeepSeek's prompts close a thought that nothing opened.
_EMPTY = re.compile(rf"(?:{_OPENER}\s*)?{_CLOSER}\s*\Z")


def opened_thought(prompt: str) -> str:
    """Return the text with which a prompt opens a thought at its end, empty where it opens none."""
    match = _OPEN.search(prompt)
    return match.group() if match else ""


def before_thought(text: str) -> str:
    """Return a text without the thought that it opens, or the empty one that stands, at its end."""
    return _OPEN.sub("", _EMPTY.sub("", text))
