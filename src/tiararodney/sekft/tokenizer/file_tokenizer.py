"""A tokenizer of the `tokenizers` library with a model's chat template: what `render.Tokenizer` asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from tiararodney.sekft.render.tokens import anchors_among, definition, is_control

if TYPE_CHECKING:
    from tiararodney.sekft.render.session import Message

TOKENIZER_FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
# The class that reads tokenizer.json as it stands; others rebuild parts of it.
_PLAIN_CLASS = "PreTrainedTokenizerFast"


@dataclass(frozen=True)
class FileTokenizer:
    """A tokenizer and its chat template, as a model folder holds them. Obeys `render.Tokenizer`.

    Args:
        backend: the tokenizer of the `tokenizers` library.
        chat_template: Jinja source.
        named: the named special tokens that templates refer to (``bos_token`` ...), by name.
        config: ``tokenizer_config.json`` without the chat template.
    """

    backend: Any
    chat_template: str
    named: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bos_token(self) -> str | None:
        """Text of the token that begins a sequence."""
        return self.named.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """Text of the token that ends a sequence."""
        return self.named.get("eos_token")

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Text and id of every special token."""
        return {t.content: i for i, t in self._added.items() if is_control(t)}

    @cached_property
    def anchors(self) -> frozenset[int]:
        """Ids of added tokens at which a text can be cut."""
        return anchors_among(self._added)

    @cached_property
    def definition(self) -> str:
        """JSON of what decides how a text is encoded."""
        return definition(self.backend.to_str())

    @property
    def _added(self) -> dict[int, Any]:
        return cast("dict[int, Any]", self.backend.get_added_tokens_decoder())

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Apply the chat template as `apply_chat_template` does.

        Raises:
            Exception: whatever the template raises.
        """
        # Plain dictionaries, as an endpoint parses them out of a request: templates ask `message is mapping`.
        plain = [{"role": m.role, "content": m.content} for m in messages]
        context = {"messages": plain, "tools": None, "documents": None, **self.named}
        return cast("str", self._template.render(context, add_generation_prompt=add_generation_prompt))

    @cached_property
    def _template(self) -> Any:
        """The template, compiled as `apply_chat_template` compiles it: its filters, globals and sandbox."""
        # `apply_chat_template` itself also checks rich messages and tools, which takes longer than the template does
        # and finds none here. A test holds the two to the same text.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # "PyTorch was not found": none is needed here
        from transformers.utils.chat_template_utils import _compile_jinja_template

        return _compile_jinja_template(self.chat_template)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; no special token is added."""
        return cast("list[int]", self.backend.encode(text, add_special_tokens=False).ids)

    def encode_with_offsets(self, text: str) -> tuple[list[int], Sequence[tuple[int, int]]]:
        """Return ids and, for each, the range of characters it stands for."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, _Offsets(encoding)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        return cast("str", self.backend.decode(ids, skip_special_tokens=False))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of the vocabulary behind ids."""
        return [self.backend.id_to_token(i) or "" for i in ids]

    def with_template(self, template: str) -> Self:
        """Return the same tokenizer with another chat template."""
        return replace(self, chat_template=template)

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's three files into a folder, so that `AutoTokenizer` loads it as it is here."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        config = {**self.config, **self.named, "tokenizer_class": _PLAIN_CLASS}
        (out / TOKENIZER_FILE).write_text(self.backend.to_str(), encoding="utf-8")
        (out / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")


class _Offsets(Sequence[tuple[int, int]]):
    """The character ranges of an encoding's tokens, looked up one by one: a mask needs few of them."""

    def __init__(self, encoding: Any) -> None:
        self._encoding, self._range = encoding, encoding.token_to_chars

    def __len__(self) -> int:
        return len(self._encoding)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._range(i) for i in range(*index.indices(len(self)))]
        found = self._range(index if index >= 0 else index + len(self))
        if found is None:
            raise IndexError(index)
        return found
