"""Loading: the files of a model become a `FileTokenizer`, or one sentence says what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.tokenizer.added import NAMED, add_tokens, token_text
from tiararodney.sekft.tokenizer.file_tokenizer import FileTokenizer
from tiararodney.sekft.tokenizer.files import (
    CONFIG_FILE,
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    find_object,
    find_text,
    required,
)

if TYPE_CHECKING:
    from pathlib import Path

_SPECIAL_FILE, _ADDED_FILE = "special_tokens_map.json", "added_tokens.json"


def load_tokenizer(path: str | Path) -> FileTokenizer:
    """Load the tokenizer and chat template of a model folder, an adapter's folder, or a model on the hub.

    Args:
        path: a folder, or a hub id where none is there by that name.

    Raises:
        UsageError: there is no such model, or it lacks a tokenizer or a chat template that can be read.
    """
    path = hub.find(path, hub.TOKENIZER, "--base")
    source = required(path, TOKENIZER_FILE, "the fast tokenizer's file")
    required(path, CONFIG_FILE, "the tokenizer's settings")
    config = find_object(path, CONFIG_FILE) or {}
    backend = _backend(path, source)
    # Newer models keep all of it in one file; the two others are what older ones have.
    legacy = {} if "added_tokens_decoder" in config else find_object(path, _ADDED_FILE) or {}
    config = {**(find_object(path, _SPECIAL_FILE) or {}), **config}
    if add_tokens(backend, config, legacy, str(path)):
        source = backend.to_str()
    named = {}
    for name in NAMED:
        token = token_text(config.get(name))
        if token is None:
            continue
        if backend.token_to_id(token) is None:
            raise UsageError(
                f"{path}/{CONFIG_FILE}: field {name!r}: found {token!r}, expected a token of {TOKENIZER_FILE}. "
                "Take both files from the same model."
            )
        named[name] = token
    kept = {k: v for k, v in config.items() if k not in ("chat_template", *NAMED)}
    return FileTokenizer(backend, _template(path, config), named, kept, source)


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
    text = find_text(path, TEMPLATE_FILE)
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
