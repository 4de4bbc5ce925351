"""One shape for every session: what a strictly alternating template takes.

`contract.canonical` writes the same normalisation in Jinja; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused

NORMALIZER_VERSION = "1"
"""Raised whenever the same messages would come out otherwise; part of the fingerprint."""

ROLES = ("system", "user", "assistant")
_TOOL_ROLES, _TOOL_KEYS = ("tool", "function"), ("tool_calls", "function_call", "tool_call_id")
_FOLD, _MERGE = "\n\n", "\n"


def normalize_for_template(messages: Messages) -> list[Message]:
    """Merge consecutive turns of one role and fold a leading system turn into the first user turn.

    Idempotent, and no text is lost. A system turn further on stays where it is: the template decides about it.

    Args:
        messages: ``{role, content}`` mappings or records; a content is text, or a list of parts
            ``{"type": "text", "text": ...}``, which is their texts joined. ``train: false`` or ``weight: 0`` on an
            assistant turn makes it context (`Message.train`).

    Returns:
        The messages, same-role neighbours joined by a newline, the leading system turn joined by a blank line.

    Raises:
        SessionRefused: (`RefusalReason.NOT_A_CHAT`) no message at all, an unknown role, content that is no text,
            an assistant turn first, or a system turn with no user turn to fold it into;
            (`RefusalReason.TOOL_CALL`) a tool call, or a tool's answer.
    """
    merged: list[Message] = []
    for index, raw in enumerate(messages):
        message = _message(raw, index)
        if merged and merged[-1].role == message.role:
            # Half a turn cannot be trained: a mistake in it masks the whole.
            text, train = merged[-1].content + _MERGE + message.content, merged[-1].train and message.train
            merged[-1] = Message(message.role, text, train)
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


def calls_tool(message: object) -> bool:
    """Tell whether a message, a mapping or a record, calls a tool or is a tool's answer."""
    return _field(message, "role") in _TOOL_ROLES or any(_field(message, key) for key in _TOOL_KEYS)


def _message(raw: object, index: int) -> Message:
    """Read one message, refusing what is none."""
    role, content, found = _field(raw, "role"), _field(raw, "content"), ""
    if isinstance(content, list | tuple) and all(_is_text(part) for part in content):
        content = "".join(part["text"] for part in content)
    if calls_tool(raw):
        raise SessionRefused(RefusalReason.TOOL_CALL, "a tool call or its answer, expected commands as text", index)
    if role not in ROLES:
        found = f"role {role!r}, expected one of {', '.join(ROLES)}"
    elif not isinstance(content, str):
        found = f"content of type {type(content).__name__}, expected text"
    else:
        try:
            content.encode()
        except UnicodeEncodeError as error:
            found = f"a lone surrogate at character {error.start}, expected text"
    if found:
        raise SessionRefused(RefusalReason.NOT_A_CHAT, found, index)
    # `weight` is OpenAI's and Mistral's key for the same.
    train = _field(raw, "train") in (None, True) and _field(raw, "weight") != 0
    return Message(role, content, train)


def _field(raw: object, name: str) -> Any:
    """Return a field of a mapping or a record, None where it has none."""
    if isinstance(raw, Mapping) and not isinstance(raw, Message):
        return raw.get(name)
    return getattr(raw, name, None)


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
