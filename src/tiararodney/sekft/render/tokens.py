"""What the contract needs of a tokenizer: text to ids and back, the model's chat template, and its added tokens."""

from __future__ import annotations

import json
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiararodney.sekft.render.session import Message

TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_DEFINING = ("added_tokens", "normalizer", "pre_tokenizer", "decoder", "model")
# The class that reads tokenizer.json as it stands, by the name that every version of transformers knows.
_CLASS = "PreTrainedTokenizerFast"


class Tokenizer:
    """A fast tokenizer of transformers and a chat template. Encoding adds neither special tokens nor spaces.

    Args:
        inner: transformers' tokenizer; truncation and padding are taken off it.
        template: Jinja source of a chat template in place of its own.
        compiled: makes a template of Jinja source, as transformers' `apply_chat_template` does. That itself is used
            where none is given; what it does besides, for rich messages and tools, takes longer than the template.
        config: ``tokenizer_config.json``, for `save`.
    """

    def __init__(
        self,
        inner: Any,
        template: str | None = None,
        compiled: Callable[[str], Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.inner, self.backend = inner, inner.backend_tokenizer
        self._template, self._compiled, self._config = template, compiled, config or {}
        self.bos_token: str | None = inner.bos_token
        self.eos_token: str | None = inner.eos_token  # a turn may end in another
        self.backend.no_truncation()
        self.backend.no_padding()

    @property
    def chat_template(self) -> str:
        """Jinja source of the template that `render_text` applies."""
        return str(self.inner.get_chat_template()) if self._template is None else self._template

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Text and id of every special token that is found in text as a whole and is no mere white space."""
        added = self.backend.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items() if token.special and token.content.strip()}

    @cached_property
    def anchors(self) -> Mapping[int, str]:
        """Id and text of the added tokens at which a text can be cut: what follows is encoded as if it began there.

        One that is matched before normalisation, wherever it stands, splits the text for certain. One that is matched
        after it, or only as a word of its own, depends on what is around it; so does one that is part of another.
        """
        added = self.backend.get_added_tokens_decoder()
        every = "\0".join(token.content for token in added.values())
        return {
            i: token.content
            for i, token in added.items()
            if not token.normalized and not token.single_word and every.count(token.content) == 1
        }

    @cached_property
    def definition(self) -> str:
        """JSON of what decides how a text is encoded (vocabulary, merges ...); equal for equal tokenizers."""
        whole = json.loads(self.backend.to_str())
        return json.dumps({k: whole.get(k) for k in _DEFINING}, sort_keys=True, ensure_ascii=True)

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Apply the chat template.

        Raises:
            Exception: whatever the template raises.
        """
        # Plain dictionaries, as an endpoint parses them out of a request: templates ask `message is mapping`.
        plain = [{"role": m.role, "content": m.content} for m in messages]
        asked: dict[str, Any] = {"add_generation_prompt": add_generation_prompt, "tools": None, "documents": None}
        if self._compiled is None:
            text = self.inner.apply_chat_template(plain, chat_template=self._template, tokenize=False, **asked)
        else:
            named = self.inner.special_tokens_map
            text = self._compiled(self.chat_template).render(messages=plain, **asked, **named)
        return cast("str", text)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return cast("list[int]", self.backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        return cast("str", self.backend.decode(ids, skip_special_tokens=False))

    def with_template(self, template: str) -> Self:
        """Return the same tokenizer with another chat template."""
        return type(self)(self.inner, template, self._compiled, self._config)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's three files into a folder, so that `AutoTokenizer` loads it as it is here."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        config = {**self._config, **self.inner.special_tokens_map, "tokenizer_class": _CLASS}
        config.pop("chat_template", None)  # it has a file of its own
        (out / TOKENIZER_FILE).write_text(self.backend.to_str(), encoding="utf-8")
        (out / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")


def as_tokenizer(tokenizer: object) -> Tokenizer:
    """Return the tokenizer itself, or a transformers tokenizer wrapped.

    Raises:
        TypeError: it is neither.
    """
    if hasattr(tokenizer, "render_text"):
        return cast("Tokenizer", tokenizer)
    if hasattr(tokenizer, "apply_chat_template") and hasattr(tokenizer, "backend_tokenizer"):
        return Tokenizer(tokenizer)
    found = type(tokenizer).__name__
    raise TypeError(f"expected a sekft Tokenizer or a fast tokenizer of transformers, found {found}")


def control_pattern(tok: Tokenizer) -> re.Pattern[str]:
    """Return a pattern that matches the text of any control token."""
    return pattern_of(tuple(tok.control_tokens))


@lru_cache(maxsize=64)
def pattern_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern that matches any of some texts, the longest first."""
    # An empty alternation would match everywhere; no text must match nowhere.
    return re.compile("|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True)) or r"(?!)")


ESCAPE = "\u200b"  # a zero-width space


def escaped(token: str) -> str:
    """Return a control token's text broken up, as the policy ``escape`` does: no tokenizer takes it for the token."""
    return token[:1] + ESCAPE + token[1:]
