"""Write what a run made: a folder that plain peft loads, complete or not there at all."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from tiararodney.sekft.folders import new_folder
from tiararodney.sekft.model.adapters import RECORD, WEIGHTS, tensor_names
from tiararodney.sekft.sft.card import model_card
from tiararodney.sekft.sft.curve import draw_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tiararodney.sekft.model import Base
    from tiararodney.sekft.render.contract.fingerprint import Fingerprint

log = logging.getLogger(__name__)

CURVE, PICTURE, CARD = "curve.jsonl", "curve.png", "README.md"


def write_adapter(
    out: Path,
    base: Base,
    name: str,
    record: Mapping[str, Any],
    contract: Callable[[Path], Fingerprint],
    *,
    replace: bool,
) -> None:
    """Write the adapter's folder in one move.

    Args:
        out: The folder; it appears complete or not at all.
        base: The base that the adapter hangs on.
        name: The adapter's name.
        record: What was done, for `training.json` and the card; its `curve` goes to `curve.jsonl`, a line each, and is
            drawn.
        contract: Writes tokenizer, chat template and `render.json` into a folder.
        replace: Put it in place of a folder that is there.

    Raises:
        RunFailed: The disk refuses.
    """
    with new_folder(out, replace=replace) as folder:
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensor_names(base, name).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = base.adapters.handle.peft_config[name]
        inference = config.inference_mode
        config.inference_mode = True
        config.save_pretrained(folder)
        config.inference_mode = inference
        rendered = contract(folder)
        told = {key: value for key, value in record.items() if key != "curve"}
        (folder / RECORD).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        lines = "".join(json.dumps(entry) + "\n" for entry in record["curve"])
        (folder / CURVE).write_text(lines, encoding="utf-8")
        (folder / CARD).write_text(model_card(out.name, record, rendered.to_json()), encoding="utf-8")
        try:
            draw_curve(record["curve"], out.name, folder / PICTURE)
        except ModuleNotFoundError as error:
            log.warning("%s is not drawn: it needs %s. Install it: pip install matplotlib", PICTURE, error.name)
