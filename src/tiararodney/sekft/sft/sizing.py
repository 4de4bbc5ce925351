"""How much goes through the model at once: rows sized to the memory that is free.

What a row's backward pass needs grows with its tokens, by an amount that the layers' shapes tell. Rows have the
device's best size where that fits, else the half of it, a quarter and so on: sizes that a little more or less free
memory does not change, as other rows sum gradients in another order. Where not even the longest example fits, layers
are computed twice (gradient checkpointing). The estimate may err; the loop halves rows when memory runs out all the
same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from tiararodney.sekft.model.memory import free_memory
from tiararodney.sekft.sft.step.forward import is_written_out, kept

log = logging.getLogger(__name__)

# Tokens of a row that go fastest. On the CPU a row a core of 1024 trains 8 % slower than of 2048 in half of the memory.
BEST = {"cpu": 1024, "cuda": 8192}
LEAST = 256  # shorter rows gain little more room
SHARE = 0.6  # of the free memory that rows may take
# What transformers' own forward keeps, in outputs of its linear layers: 2.3 to 3.4 measured for bf16 Phi-3, Gemma 2 and
# Llama with dropout, 5.5 with DoRA.
OTHERS = 6.0
# What it holds of its logits: in three forms, at the trained fifth of the positions, in bytes.
LOGITS = 0.2 * (2 + 4 + 4)


@dataclass(frozen=True)
class Size:
    """How a run goes through its examples.

    Attributes:
        row_tokens: Tokens of a row.
        checkpointing: Whether layers are computed twice.
    """

    row_tokens: int
    checkpointing: bool


def fitting(
    model: Any, adapter: str, *, longest: int, at_once: int, asked: int = 0, checkpointing: bool | None = None
) -> Size:
    """Size rows to the memory that is free.

    Args:
        model: The causal language model with the LoRA layers of `adapter` on it.
        adapter: Name of the adapter that is trained.
        longest: Tokens of the longest example.
        at_once: Rows that are worked on side by side.
        asked: Tokens of a row that the user asked for; 0 leaves it to this function.
        checkpointing: Whether layers are computed twice; None where memory decides.

    Returns:
        The size.
    """
    free = free_memory(model.device)
    room = SHARE * free / at_once
    best = asked or BEST.get(model.device.type, BEST["cuda"])

    def fits(tokens: int, *, recomputing: bool) -> bool:
        return max(tokens, longest) * held_per_token(model, adapter, checkpointing=recomputing) <= room

    for recomputing in (False, True) if checkpointing is None else (checkpointing,):
        tokens = best
        while not asked and tokens > LEAST and not fits(tokens, recomputing=recomputing):
            tokens //= 2
        if fits(tokens, recomputing=recomputing):
            break
    if (tokens, recomputing) != (best, bool(checkpointing)):
        log.info(
            "%.1f GB of memory are free: rows of %d tokens%s",
            free / 1e9, tokens, ", layers computed twice" if recomputing else "",
        )  # fmt: skip
    return Size(tokens, recomputing)


def held_per_token(model: Any, adapter: str, *, checkpointing: bool) -> float:
    """Estimate what the backward pass needs of each token.

    Args:
        model: The causal language model with the LoRA layers of `adapter` on it.
        adapter: Name of the adapter that is trained.
        checkpointing: Whether layers are computed twice: their inputs are kept, and all of one of them.

    Returns:
        Bytes.
    """
    width: float = torch.finfo(model.dtype).bits / 8
    text = model.config.get_text_config()
    layers, size = int(text.num_hidden_layers), int(text.hidden_size)
    if is_written_out(model):
        inside, logits = kept(model, adapter) * width, 0.0
    else:
        outputs = [getattr(module, "out_features", 0) for module in model.modules() if not hasattr(module, "lora_A")]
        # the head is a linear layer too; LoRA's own thin ones count little
        inside = OTHERS * max(sum(outputs) - text.vocab_size, 0) * width
        logits = LOGITS * int(text.vocab_size)
    return logits + (inside / layers + layers * size * width if checkpointing else inside)
