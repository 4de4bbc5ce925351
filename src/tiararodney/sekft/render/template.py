"""Messages to text: the model's chat template, applied in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.session import Message, Messages, RefusalReason, SessionRefused
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence


def render_prompt(tokenizer: object, messages: Messages) -> list[int]:
    """Return the ids that a chat-completions endpoint puts before the model.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        messages: the session so far, as the endpoint receives it.

    Raises:
        SessionRefused: the messages are no chat, or the template raises on them.
    """
    tok = as_tokenizer(tokenizer)
    return tok.encode(render(tok, normalize_for_template(messages), add_generation_prompt=True))


def render(tokenizer: Tokenizer, session: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Apply the tokenizer's chat template to a normalised session.

    Raises:
        SessionRefused: (`RefusalReason.TEMPLATE_REFUSES`) the template raises on it.
    """
    try:
        return tokenizer.render_text(session, add_generation_prompt=add_generation_prompt)
    except Exception as error:  # a template is a third party's program: whatever it trips over, it refuses the session
        raise SessionRefused(RefusalReason.TEMPLATE_REFUSES, f"{type(error).__name__}: {error}") from error
