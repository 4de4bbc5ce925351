"""A model folder's tokenizer and chat template, loaded as its files say, without torch.

`AutoTokenizer` rebuilds some tokenizers from a class of its own and drops parts of ``tokenizer.json`` on the way
(SmolLM2 loses the digit pre-tokenizer), so that file is read by the class that takes it as it stands. What cannot be
right in the files is refused in one sentence.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render.tokens import CONFIG_FILE, TOKENIZER_FILE, Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the tokenizer and chat template of a model folder, an adapter's folder, or a model on the hub.

    Args:
        path: a folder, or a hub id where none is there by that name.

    Raises:
        UsageError: there is no such model, or it lacks a tokenizer or a chat template that can be read.
    """
    folder = hub.find(path, hub.TOKENIZER, "--base")
    for name in (TOKENIZER_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: found no {name}, expected it beside the model. "
                "Give --base a model folder in the Hugging Face format."
            )
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        inner = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever a file that is no tokenizer makes its reader raise
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(
            f"{folder}: transformers cannot read its tokenizer ({found}). "
            f"Expected {TOKENIZER_FILE} and {CONFIG_FILE} of one model; copy them again."
        ) from error
    _check(folder, inner, config)
    template = inner.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise UsageError(
            f"{folder}: found no chat template, expected chat_template.jinja or the field 'chat_template' in "
            f"{CONFIG_FILE}. Take an instruction-tuned model, or put its template there."
        )
    return Tokenizer(inner, template, _compile_jinja_template, config)


def _check(folder: Path, inner: Any, config: dict[str, Any]) -> None:
    """Refuse tokens that transformers had to give another id, or one that the model has no embedding for."""
    for index, stated in (config.get("added_tokens_decoder") or {}).items():
        token = stated["content"]
        if (found := inner.convert_tokens_to_ids(token)) != int(index):
            raise UsageError(
                f"{folder}/{CONFIG_FILE}: field 'added_tokens_decoder': found {token!r} with the id {index}, "
                f"but with {TOKENIZER_FILE} it gets {found}. Take both files from the same model."
            )
    files = [folder / TOKENIZER_FILE, folder / "added_tokens.json"]
    known = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    known += json.dumps(config.get("added_tokens_decoder"), ensure_ascii=False)
    for name, token in inner.special_tokens_map.items():
        if not any(json.dumps(token, ensure_ascii=ascii_only) in known for ascii_only in (False, True)):
            raise UsageError(
                f"{folder}/{CONFIG_FILE}: field {name!r}: found {token!r}, expected a token of {TOKENIZER_FILE}. "
                "Take both files from the same model."
            )
    if getattr(inner.backend_tokenizer.model, "dropout", None):
        raise UsageError(
            f"{folder}/{TOKENIZER_FILE}: field 'model.dropout': the tokenizer encodes at random. Set it to null."
        )
