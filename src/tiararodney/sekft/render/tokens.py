"""What the contract needs of a tokenizer, and how a transformers tokenizer obeys it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.render.session import Message

_DEFINING = ("added_tokens", "normalizer", "pre_tokenizer", "decoder", "model")


class Tokenizer(Protocol):
    """Text to ids and back, and the model's own chat template. Neither special tokens nor spaces are ever added."""

    @property
    def chat_template(self) -> str:
        """Jinja source of the template that `render_text` applies."""
        ...

    @property
    def bos_token(self) -> str | None:
        """Text of the token that begins a sequence."""
        ...

    @property
    def eos_token(self) -> str | None:
        """Text of the token that ends a sequence; a turn may end in another."""
        ...

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Text and id of every special token that is found in text as a whole."""
        ...

    @property
    def anchors(self) -> frozenset[int]:
        """Ids of control tokens at which a text can be cut: what follows is encoded as if the text began there."""
        ...

    @property
    def definition(self) -> str:
        """JSON of what decides how a text is encoded (vocabulary, merges ...); equal for equal tokenizers."""
        ...

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Apply the chat template."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], Sequence[tuple[int, int]]]:
        """Return the ids of a text and, for each, the range of characters it stands for."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        ...

    def with_template(self, template: str) -> Self:
        """Return the same tokenizer with another chat template."""
        ...


class TransformersTokenizer:
    """A transformers tokenizer seen as a `Tokenizer`, without importing transformers.

    Args:
        inner: an object with transformers' tokenizer interface; offsets need its fast kind.
        template: a chat template in place of its own.
    """

    def __init__(self, inner: Any, template: str | None = None) -> None:
        self.inner = inner
        self._template = template
        added: Mapping[int, Any] = inner.added_tokens_decoder
        self._control = {str(token): int(i) for i, token in added.items() if is_control(token)}
        self._anchors = anchors_among(added)

    @property
    def chat_template(self) -> str:
        """Jinja source of the template."""
        return str(self.inner.get_chat_template()) if self._template is None else self._template

    @property
    def bos_token(self) -> str | None:
        """Text of the token that begins a sequence."""
        return cast("str | None", self.inner.bos_token)

    @property
    def eos_token(self) -> str | None:
        """Text of the token that ends a sequence."""
        return cast("str | None", self.inner.eos_token)

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Text and id of every special token."""
        return self._control

    @property
    def anchors(self) -> frozenset[int]:
        """Ids of added tokens at which a text can be cut."""
        return self._anchors

    @property
    def definition(self) -> str:
        """JSON of what decides how a text is encoded."""
        return definition(self.inner.backend_tokenizer.to_str())

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Apply the chat template."""
        plain = [dict(m) for m in messages]
        return str(
            self.inner.apply_chat_template(
                plain, chat_template=self._template, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return list(self.inner(text, add_special_tokens=False)["input_ids"])

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return ids and character ranges."""
        out = self.inner(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(out["input_ids"]), [(int(a), int(b)) for a, b in out["offset_mapping"]]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        text = self.inner.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return cast("str", text)

    def with_template(self, template: str) -> Self:
        """Return the same tokenizer with another chat template."""
        return type(self)(self.inner, template)


def is_control(token: Any) -> bool:
    """Tell whether an added token is a control token: special, and not mere white space."""
    return bool(token.special) and bool(str(token.content).strip())


def definition(serialised: str) -> str:
    """Reduce a serialised tokenizer to what decides how a text without added special tokens is encoded."""
    whole = json.loads(serialised)
    return json.dumps({k: whole.get(k) for k in _DEFINING}, sort_keys=True, ensure_ascii=True)


def anchors_among(added: Mapping[int, Any]) -> frozenset[int]:
    """Return the ids of the added tokens at which a text can be cut.

    One that is matched before normalisation, wherever it stands, splits the text for certain. One that is matched after
    normalisation, or only as a word of its own, depends on what is around it; so does one that is part of another.
    """
    texts = [str(token.content) for token in added.values()]
    every = "\0".join(texts)
    return frozenset(
        int(i)
        for i, token in added.items()
        if not token.normalized and not token.single_word and every.count(str(token.content)) == 1
    )


def as_tokenizer(tokenizer: object) -> Tokenizer:
    """Return the tokenizer itself, or a transformers tokenizer wrapped.

    Raises:
        TypeError: it is neither.
    """
    # Not `isinstance`: it would compute every property, the definition of a large vocabulary among them.
    if callable(getattr(tokenizer, "encode_with_offsets", None)):
        return cast("Tokenizer", tokenizer)
    if callable(getattr(tokenizer, "apply_chat_template", None)):
        return TransformersTokenizer(tokenizer)
    message = f"expected a sekft Tokenizer or a transformers tokenizer, found {type(tokenizer).__name__}"
    raise TypeError(message)
