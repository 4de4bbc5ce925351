"""Files of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiararodney.sekft.errors import UsageError

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def find_text(model: str | Path, name: str) -> str | None:
    """Return a file's text, None where the model lacks the file.

    Args:
        model: its folder.
        name: of the file.

    Raises:
        UsageError: the file cannot be read.
    """
    file = Path(model) / name
    if not file.is_file():
        return None
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows' editors begin files with a BOM
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: found a file that cannot be read ({error}), expected UTF-8 text.") from None


def find_object(model: str | Path, name: str) -> dict[str, Any] | None:
    """Return a file's JSON object, None where the model lacks the file; errors are those of `find_text`."""
    text = find_text(model, name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{model}/{name}: found broken JSON ({error}), expected an object.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{model}/{name}: found {type(value).__name__}, expected an object.")
    return value


def required(model: str | Path, name: str, what: str) -> str:
    """Return a file's text; `what` says in the error what a missing one holds."""
    text = find_text(model, name)
    if text is None:
        raise UsageError(
            f"{model}: found no {name}, expected {what} beside the model. "
            "Give --base a model folder in the Hugging Face format."
        )
    return text
