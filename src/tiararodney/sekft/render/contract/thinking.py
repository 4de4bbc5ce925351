"""Turning a template's thinking off, in training and in serving.

A model behind a prompt that opens a thought (``<think>``) is asked to think aloud first. Where the template has a
switch for it, it is fixed: the prompt then closes the thought it opens, and a command follows. Where it has none, the
reply is trained after the open thought, since that is the prompt that is served; a server returns such a reply whole as
long as no reasoning parser takes thoughts out of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiararodney.sekft.render.contract.canonical import canonical_chat_template, template_policy
from tiararodney.sekft.render.session import Message
from tiararodney.sekft.render.thoughts import opened_thought

if TYPE_CHECKING:
    from tiararodney.sekft.render.tokens import Tokenizer

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which chat templates let thinking be turned off."""
_PROBE = (Message("user", "$ "),)


def thinking_off(tok: Tokenizer) -> dict[str, bool]:
    """Return the settings under which a model's own template opens no thought; none where it opens none anyhow.

    Args:
        tok: a tokenizer with the template.
    """
    if template_policy(tok.chat_template) is not None or not _opens_a_thought(tok):
        return {}
    for name in SWITCHES:
        if re.search(rf"\b{name}\b", tok.chat_template):
            settings = {name: False}
            off = tok.with_template(canonical_chat_template(tok.chat_template, settings=settings))
            if not _opens_a_thought(off):
                return settings
    return {}


def _opens_a_thought(tok: Tokenizer) -> bool:
    try:
        return bool(opened_thought(tok.render_text(_PROBE, add_generation_prompt=True)))
    except Exception:  # noqa: BLE001 - the template is a third party's program: it is refused where it is used
        return False
