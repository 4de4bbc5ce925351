"""Files of a model: in its folder, or in the local cache of the hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tiararodney.sekft.errors import UsageError

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


def find_text(model: str | Path, name: str) -> str | None:
    """Return a file's text, None where the model lacks the file.

    Args:
        model: a folder, or the hub id of a model whose files are in the local cache.
        name: of the file.

    Raises:
        UsageError: there is no such model, or the file cannot be read.
    """
    folder = Path(model)
    file = folder / name if folder.exists() else _in_hub_cache(str(model), name)
    if file is None or not file.is_file():
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


def _in_hub_cache(model: str, name: str) -> Path | None:
    """Return where a file of a model lies in the hub's local cache. The network is not asked: a typo must not wait."""
    # Advice about a torch that is missing: nothing here needs one.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    missing = f"{model}: found no such folder, and no model of that name in the local hub cache."
    try:
        return Path(snapshot_download(model, local_files_only=True)) / name
    except HFValidationError:
        raise UsageError(f"{missing} Check the path.") from None
    except (LocalEntryNotFoundError, OSError):
        raise UsageError(f"{missing} Check the path, or download the model: hf download {model}") from None
