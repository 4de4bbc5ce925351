"""Added tokens that only ``tokenizer_config.json`` lists.

`AutoTokenizer` adds them to what ``tokenizer.json`` holds. Without them a control token of the chat template would be
cut into letters, and a model would be trained on letters where it is served one token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.tokenizer.files import CONFIG_FILE, TOKENIZER_FILE

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("extra_special_tokens", "additional_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def add_tokens(backend: Any, config: Mapping[str, Any], legacy: Mapping[str, int], model: str) -> bool:
    """Add a configuration's tokens to a tokenizer, as transformers does: in the order of their ids, flags included.

    Args:
        backend: the tokenizer of the `tokenizers` library; changed in place.
        config: ``tokenizer_config.json``.
        legacy: ``added_tokens.json``, text to id; read where the configuration lists no `added_tokens_decoder`.
        model: its folder or hub id, for messages.

    Returns:
        Whether anything was added or changed.

    Raises:
        UsageError: a token does not get the id that the configuration states.
    """
    before = _added(backend)
    special = {_content(config.get(name)) for name in NAMED} | {_content(t) for t in _listed(config)}
    stated = _stated(config, legacy, special - {None}, model)
    backend.add_tokens([token for _, token in sorted(stated.items())])
    for index, token in stated.items():
        found = backend.encode(token.content, add_special_tokens=False).ids
        if backend.token_to_id(token.content) != index or found != [index]:
            raise UsageError(
                f"{model}/{CONFIG_FILE}: field 'added_tokens_decoder': found {token.content!r} with the id {index}, "
                f"but with {TOKENIZER_FILE} it gets {found}. Take both files from the same model."
            )
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    # A named token of the vocabulary proper is matched as a whole too. One that is in no file is refused by the caller:
    # it would get an id that the model has no embedding for.
    named = [t for t in (config.get(name) for name in NAMED) if backend.token_to_id(_content(t) or "") is not None]
    missing = (t for t in [*named, *_listed(config)] if _content(t) not in known)
    backend.add_tokens([_token(t, special=True) for t in missing])
    return _added(backend) != before


def token_text(value: object) -> str | None:
    """Return the text of a named token, which is written as a string or as an object with its flags."""
    return _content(value)


def _stated(config: Mapping[str, Any], legacy: Mapping[str, int], special: set[Any], model: str) -> dict[int, Any]:
    """Return the added tokens that a model's files state, by id."""
    listed = config.get("added_tokens_decoder")
    if listed is None:
        return {int(i): _token(text, special=text in special) for text, i in legacy.items()}
    try:
        return {int(i): _token(value, special=_content(value) in special) for i, value in listed.items()}
    except (AttributeError, TypeError, ValueError):
        raise UsageError(
            f"{model}/{CONFIG_FILE}: field 'added_tokens_decoder': found {json.dumps(listed)[:80]}, expected an object "
            "of ids, each with a token's 'content' and flags."
        ) from None


def _token(value: object, *, special: bool) -> Any:
    from tokenizers import AddedToken

    if isinstance(value, Mapping):
        flags = {name: value[name] for name in _FLAGS if isinstance(value.get(name), bool)}
        return AddedToken(str(value["content"]), **{"special": special, **flags})
    return AddedToken(str(value), special=special, normalized=not special)


def _listed(config: Mapping[str, Any]) -> list[Any]:
    out: list[Any] = []
    for name in _LISTS:
        value = config.get(name) or []
        out += value.values() if isinstance(value, Mapping) else value
    return out


def _content(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _added(backend: Any) -> dict[int, str]:
    return {i: repr(token) for i, token in backend.get_added_tokens_decoder().items()}
