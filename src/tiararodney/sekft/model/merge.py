"""Merge an adapter into its base: one folder that needs neither peft nor sekft."""

from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING, Any

import torch

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import new_folder
from tiararodney.sekft.model.adapters import CONFIG, RECORD, WEIGHTS, check_record, read_config
from tiararodney.sekft.model.base import find_folder
from tiararodney.sekft.model.fingerprint import base_fingerprint
from tiararodney.sekft.model.loading import load_model
from tiararodney.sekft.render.tokens import CONFIG_FILE, TOKENIZER_FILE
from tiararodney.sekft.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

# The vocabulary with its scores, which `tokenizer.json` lacks and llama.cpp needs; an adapter's folder goes without.
SENTENCEPIECE = "tokenizer.model"
_SPACE = "▁"

# What in an adapter's folder is about the adapter and not about the model it makes.
OF_THE_ADAPTER = {CONFIG, WEIGHTS, RECORD, "README.md", "curve.jsonl", "curve.png"}


def merge_adapter(base: Path, adapter: Path, out: Path) -> Path:
    """Write the model that base and adapter make together, in the base's own precision.

    An adapter that was trained on NF4 weights is merged into the weights before rounding: the result computes what the
    base in full precision with the adapter computes, which differs a little from the 4-bit base with the adapter.

    Args:
        base: The base model's folder.
        adapter: An adapter's folder.
        out: The folder to write, and to return: complete or not at all, with the adapter's tokenizer and chat template.

    Raises:
        UsageError: The adapter is of another base, or `out` exists.
        RunFailed: The disk refuses.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if out.exists():
        raise UsageError(f"{out}: exists. Name a new folder for the merged model.")
    folder = find_folder(base)
    read_config(adapter)
    check_record(adapter, base_fingerprint(folder), folder)
    model = load_model(folder, "cpu", "auto")
    handle: Any = PeftModel.from_pretrained(model, str(adapter))
    ends = (model.get_output_embeddings(), model.get_input_embeddings())
    tied = model.config.get_text_config(decoder=True).tie_word_embeddings
    if tied and any(isinstance(layer, BaseTunerLayer) for layer in ends):
        raise UsageError(
            f"{adapter}: it has LoRA on the output head, whose weights {base} shares with its embedding: "
            "merged, it would change both. Serve the adapter beside the base, or train it without lm_head."
        )
    with torch.no_grad():
        merged = handle.merge_and_unload(safe_merge=True)
    with new_folder(out, replace=False) as fresh:
        merged.save_pretrained(fresh)
        for file in adapter.iterdir():
            if file.is_file() and file.name not in OF_THE_ADAPTER:
                shutil.copyfile(file, fresh / file.name)
        if (folder / SENTENCEPIECE).is_file() and (fresh / TOKENIZER_FILE).is_file():
            shutil.copyfile(folder / SENTENCEPIECE, fresh / SENTENCEPIECE)
            _tell_prefix(fresh)
    log.info("merged model in %s", out)
    return out


def _tell_prefix(folder: Path) -> None:
    """Write down whether a space is put in front of the text behind a control token.

    transformers has it in `tokenizer.json`. llama.cpp's converter reads `tokenizer.model`, where it stands otherwise,
    and this field of the configuration, which transformers itself has no use for in such a tokenizer.
    """
    tok = load_tokenizer(folder)
    behind = tok.encode(f"{tok.bos_token or tok.eos_token}a")[1:2]
    prefixed = [tok.backend.id_to_token(i) for i in behind] == [f"{_SPACE}a"]
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8")) | {"add_prefix_space": prefixed}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
