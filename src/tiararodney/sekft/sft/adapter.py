"""Write what a run made: a folder that plain peft loads, complete or not there at all."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from tiararodney.sekft.folders import new_folder
from tiararodney.sekft.model.adapters import RECORD, WEIGHTS
from tiararodney.sekft.sft.card import model_card
from tiararodney.sekft.sft.curve import draw_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from tiararodney.sekft.render import Fingerprint

log = logging.getLogger(__name__)

CURVE, PICTURE, CARD = "curve.jsonl", "curve.png", "README.md"


def write_adapter(
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    lora: Any,
    record: Mapping[str, Any],
    contract: Callable[[Path], Fingerprint],
    *,
    replace: bool,
) -> None:
    """Write the adapter's folder in one move.

    Args:
        out: The folder; it appears complete or not at all.
        tensors: The weights, by the names that peft's files have.
        lora: peft's configuration of the adapter.
        record: What was done, for `training.json` and the card; its `curve` goes to `curve.jsonl`, a line each, and is
            drawn.
        contract: Writes tokenizer, chat template and `render.json` into a folder.
        replace: Put it in place of a folder that is there.

    Raises:
        RunFailed: The disk refuses; what was written so far stays, and is named.
    """
    with new_folder(out, replace=replace, keep=True) as folder:
        save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
        inference = lora.inference_mode
        lora.inference_mode = True
        lora.save_pretrained(folder)
        lora.inference_mode = inference
        rendered = contract(folder)
        kept = {key: value for key, value in record.items() if key != "curve"}
        (folder / RECORD).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        lines = "".join(json.dumps(entry) + "\n" for entry in record["curve"])
        (folder / CURVE).write_text(lines, encoding="utf-8")
        _best_effort(
            CARD, lambda: (folder / CARD).write_text(model_card(out.name, record, rendered.to_json()), "utf-8")
        )
        _best_effort(PICTURE, lambda: draw_curve(record["curve"], out.name, folder / PICTURE))


def _best_effort(name: str, write: Callable[[], object]) -> None:
    """Write what an adapter can be used without."""
    try:
        write()
    except ModuleNotFoundError as error:
        log.warning("%s is not written: it needs %s. Install it: pip install %s", name, error.name, error.name)
    except Exception as error:  # noqa: BLE001 - nothing about a picture may cost a training
        log.warning("%s is not written: %s: %s", name, type(error).__name__, error)
