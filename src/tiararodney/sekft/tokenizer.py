"""Loading a tokenizer as its ``tokenizer.json`` says, without torch.

`AutoTokenizer` rebuilds some tokenizers from a class of its own and drops parts of the file on the way (SmolLM2 loses
the digit pre-tokenizer), so the file is given to the `tokenizers` library as it stands. The chat template is rendered
by the function that `apply_chat_template` of transformers calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render.template import ChatTemplate
from tiararodney.sekft.render.tokens import anchors_among, definition, is_control

if TYPE_CHECKING:
    from tiararodney.sekft.render.session import Message

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
_SPECIAL_FILE = "special_tokens_map.json"
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
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
        source: ``tokenizer.json`` as it was read.
    """

    backend: Any
    chat_template: str
    named: Mapping[str, str]
    config: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

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
        """Apply the chat template as `apply_chat_template` does."""
        return self._template.text(messages, add_generation_prompt=add_generation_prompt)

    @cached_property
    def _template(self) -> ChatTemplate:
        """The template as `apply_chat_template` compiles it: its filters, globals and sandbox."""
        # Called without the checks that it makes of rich messages and tools: here are none, and they take longer than
        # the template does. A test holds the two to the same text.
        from transformers.utils.chat_template_utils import _compile_jinja_template

        return ChatTemplate(self.chat_template, _compile_jinja_template(self.chat_template).environment, self.named)

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
        """Write the tokenizer's three files into a folder, so that transformers loads it as it is here."""
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        config = {**self.config, **self.named, "tokenizer_class": _PLAIN_CLASS}
        (out / TOKENIZER_FILE).write_text(self.source or self.backend.to_str(), encoding="utf-8")
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


def load_tokenizer(path: str | Path) -> FileTokenizer:
    """Load the tokenizer and chat template of a model folder, an adapter's folder, or a model on the hub.

    Args:
        path: a folder, or a hub id where none is there by that name.

    Raises:
        UsageError: there is no such folder, or it lacks a tokenizer or a chat template that can be read.
    """
    source = _required(path, TOKENIZER_FILE, "the fast tokenizer's file")
    config = _json(path, CONFIG_FILE, _required(path, CONFIG_FILE, "the tokenizer's settings"))
    special = _find(path, _SPECIAL_FILE)
    more = _json(path, _SPECIAL_FILE, special) if special is not None else {}
    backend = _backend(path, source)
    named = {}
    for name in _NAMED:
        token = _token(config.get(name, more.get(name)))
        if token is None:
            continue
        if backend.token_to_id(token) is None:
            raise UsageError(
                f"{path}/{CONFIG_FILE}: field {name!r}: found {token!r}, expected a token of {TOKENIZER_FILE}. "
                "Take both files from the same model."
            )
        named[name] = token
    template = _template(path, config)
    kept = {k: v for k, v in config.items() if k not in ("chat_template", *_NAMED)}
    return FileTokenizer(backend, template, named, kept, source)


def _backend(path: str | Path, source: str) -> Any:
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_str(source)
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions
        raise UsageError(
            f"{path}/{TOKENIZER_FILE}: found a file that is no tokenizer ({error}), "
            "expected one as the tokenizers library saves it."
        ) from None
    backend.no_truncation()
    backend.no_padding()
    if json.loads(source).get("model", {}).get("dropout"):
        raise UsageError(
            f"{path}/{TOKENIZER_FILE}: field 'model.dropout': the tokenizer encodes at random. Set it to null."
        )
    return backend


def _template(path: str | Path, config: Mapping[str, Any]) -> str:
    text = _find(path, TEMPLATE_FILE)
    if text is not None:
        return text
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, Mapping)}
        template = named.get("default")
    if isinstance(template, str) and template:
        return template
    raise UsageError(
        f"{path}: found no chat template, expected {TEMPLATE_FILE} or the field 'chat_template' in {CONFIG_FILE}. "
        "Take an instruction-tuned model, or put its template there."
    )


def _token(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _required(path: str | Path, name: str, what: str) -> str:
    text = _find(path, name)
    if text is None:
        raise UsageError(
            f"{path}: found no {name}, expected {what} beside the model. "
            "Give --base a model folder in the Hugging Face format."
        )
    return text


def _find(path: str | Path, name: str) -> str | None:
    """Return a file's text, None where the model lacks it."""
    folder = Path(path)
    if not folder.exists():
        file = _from_hub(str(path), name)
        if file is None:
            return None
    else:
        file = folder / name
        if not file.is_file():
            return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: found a file that cannot be read ({error}), expected UTF-8 text.") from None


def _from_hub(name: str, file: str) -> Path | None:
    """Fetch a file of a model on the hub, from its cache where it lies there."""
    missing = UsageError(f"{name}: found no such folder, and no model of that name on the hub. Check the path.")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise missing
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):
        raise missing from None
    return None if found is None else Path(found)


def _json(path: str | Path, name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}/{name}: found broken JSON ({error}), expected an object.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}/{name}: found {type(value).__name__}, expected an object.")
    return value
