"""One shape for every session: what a strictly alternating template takes.

`template.canonical_chat_template` writes the same normalisation in Jinja; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused

NORMALIZER_VERSION = "1"
"""Raised whenever the same messages would come out otherwise; part of the fingerprint."""

ROLES = ("system", "user", "assistant")
_FOLD, _MERGE = "\n\n", "\n"


def normalize_for_template(messages: Messages) -> list[Message]:
    """Merge consecutive turns of one role and fold a leading system turn into the first user turn.

    Idempotent, and no text is lost. A system turn further on stays where it is: the template decides about it.

    Args:
        messages: ``{role, content}`` mappings or records; a content is text, or a list of parts
            ``{"type": "text", "text": ...}``, which is their texts joined.

    Returns:
        The messages, same-role neighbours joined by a newline, the leading system turn joined by a blank line.

    Raises:
        SessionRefused: (`RefusalReason.NOT_A_CHAT`) no message at all, an unknown role, content that is no text,
            an assistant turn first, or a system turn with no user turn to fold it into.
    """
    merged: list[Message] = []
    for index, raw in enumerate(messages):
        message = _message(raw, index)
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(message.role, merged[-1].content + _MERGE + message.content)
        else:
            merged.append(message)
    if not merged:
        raise SessionRefused(RefusalReason.NOT_A_CHAT, "no messages")
    if merged[0].role == "system":
        if len(merged) == 1 or merged[1].role != "user":
            raise SessionRefused(RefusalReason.NOT_A_CHAT, "a system turn with no user turn after it", 0)
        merged[:2] = [Message("user", merged[0].content + _FOLD + merged[1].content)]
    if merged[0].role != "user":
        raise SessionRefused(RefusalReason.NOT_A_CHAT, f"the first turn is the {merged[0].role}'s", 0)
    return merged


def _message(raw: object, index: int) -> Message:
    """Read one message, refusing what is none."""
    if isinstance(raw, Message):
        role: object = raw.role
        content: object = raw.content
    elif isinstance(raw, Mapping):
        role, content = raw.get("role"), raw.get("content")
    else:
        role, content = getattr(raw, "role", None), getattr(raw, "content", None)
    if not isinstance(role, str) or role not in ROLES:
        raise SessionRefused(RefusalReason.NOT_A_CHAT, f"role {role!r}, expected one of {', '.join(ROLES)}", index)
    if isinstance(content, list | tuple) and all(_is_text(part) for part in content):
        return Message(role, "".join(part["text"] for part in content))
    if not isinstance(content, str):
        raise SessionRefused(
            RefusalReason.NOT_A_CHAT, f"content of type {type(content).__name__}, expected text", index
        )
    return raw if isinstance(raw, Message) else Message(role, content)


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
