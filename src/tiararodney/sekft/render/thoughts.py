"""Generation prompts that open a thought, as those of reasoning models do (``<think>``).

A model behind such a prompt is asked to think aloud first. Where the template has a switch for it, it is turned off for
good, for training and serving alike: the prompt then closes the thought it opens, and a command follows. Where it has
none, the reply is trained behind the open thought, for that is the prompt that is served; a server gives it back as
long as no parser of its own takes thoughts out of replies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiararodney.sekft.render.canonical import canonical_chat_template, template_policy
from tiararodney.sekft.render.session import Message

if TYPE_CHECKING:
    from tiararodney.sekft.render.tokens import Tokenizer

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates let thinking be turned off."""
_OPENER = r"(?:<(?:\w+:)?(?:think|thinking|thought|reasoning)>|\[THINK\]|<\|START_THINKING\|>|◁think▷)"
_CLOSER = r"(?:</(?:\w+:)?(?:think|thinking|thought|reasoning)>|\[/THINK\]|<\|END_THINKING\|>|◁/think▷)"
_OPEN = re.compile(rf"{_OPENER}\s*\Z")
_EMPTY = re.compile(rf"{_OPENER}\s*{_CLOSER}\s*\Z")
_PROBE = (Message("user", "$ "),)


def opened_thought(prompt: str) -> str:
    """Return the text with which a prompt opens a thought at its end, empty where it opens none."""
    match = _OPEN.search(prompt)
    return match.group() if match else ""


def before_thought(text: str) -> str:
    """Return a text without the thought that it opens, or the empty one that stands, at its end."""
    return _OPEN.sub("", _EMPTY.sub("", text))


def switched_off(tok: Tokenizer) -> dict[str, bool]:
    """Return the settings under which a model's own template opens no thought; none where it opens none anyhow.

    Args:
        tok: a tokenizer with the template.
    """
    if template_policy(tok.chat_template) is not None or not _opens(tok):
        return {}
    for name in SWITCHES:
        if re.search(rf"\b{name}\b", tok.chat_template):
            settings = {name: False}
            if not _opens(tok.with_template(canonical_chat_template(tok.chat_template, settings=settings))):
                return settings
    return {}


def _opens(tok: Tokenizer) -> bool:
    try:
        return bool(opened_thought(tok.render_text(_PROBE, add_generation_prompt=True)))
    except Exception:  # noqa: BLE001 - the template is a program of somebody else's: it is refused where it is used
        return False
