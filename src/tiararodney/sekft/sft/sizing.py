"""Micro-batch size and recomputation, by the memory that is free.

What a row's backward pass needs grows with its tokens, by an amount that follows from the layers' shapes. Rows have the
device's best size where that fits, else half of it, a quarter and so on: sizes that a little more or less free memory
does not change, as other rows sum gradients in another order. Only a row that does not fit otherwise (one long
session) has its layers recomputed. The estimate may err; the trainer halves rows when memory runs out all the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from tiararodney.sekft.model.memory import free_memory
from tiararodney.sekft.sft.step.forward import Route

log = logging.getLogger(__name__)

# Tokens of a row that go fastest. On the CPU rows of 1024 train 8 % slower than of 2048 in half of the memory.
BEST = {"cpu": 1024, "cuda": 8192}
LEAST = 256  # shorter rows gain little more room
SHARE = 0.6  # of the free memory that a row may take
# What a layer keeps of each token, in outputs of its linear layers. The fused layers keep those, what was attended to
# and LoRA's products. transformers' own: 2.3 to 3.4 measured for bf16 Phi-3, Gemma 2 and Llama with dropout, 5.5 with
# DoRA.
KEPT = {Route.FUSED: 1.2, Route.PACKED: 6.5, Route.SINGLE: 6.5}
# What transformers' own forward holds of its logits: in three forms, at the trained fifth of the positions, in bytes.
LOGITS = 0.2 * (2 + 4 + 4)


@dataclass(frozen=True)
class Size:
    """How a run goes through its examples.

    Attributes:
        row_tokens: Tokens of a row.
        plain_tokens: A row of more tokens has its layers recomputed; None: no row has.
    """

    row_tokens: int
    plain_tokens: int | None

    def recomputes(self, tokens: int) -> bool:
        """Whether a row of this many tokens has its layers recomputed."""
        return self.plain_tokens is not None and tokens > self.plain_tokens


def choose_size(model: Any, route: Route, *, longest: int, asked: int, recompute: str) -> Size:
    """Fit rows into the memory that is free.

    Args:
        model: The causal language model.
        route: How rows go through it.
        longest: Tokens of the longest example.
        asked: Tokens of a row that the user asked for; 0 leaves it to this function.
        recompute: "auto", "always" or "never".
    """
    room = SHARE * free_memory(model.device)
    each = bytes_per_token(model, route, recompute=recompute == "always")
    best = asked or BEST.get(model.device.type, BEST["cuda"])
    tokens = best
    while not asked and tokens > LEAST and tokens * each > room:
        tokens //= 2
    plain = {"always": 0, "never": None}.get(recompute, max(int(room / each), 1))
    if plain and plain >= max(tokens, longest):
        plain = None
    if tokens != best or plain:
        log.info(
            "%.1f GB of memory are free: micro-batches of %d tokens%s", room / SHARE / 1e9, tokens,
            "" if plain is None else f"; longer ones than {plain} are recomputed",
        )  # fmt: skip
    return Size(tokens, plain)


def bytes_per_token(model: Any, route: Route, *, recompute: bool) -> float:
    """Estimate the bytes that the backward pass needs of each token.

    Of layers that are recomputed their inputs are kept, and all of one of them.
    """
    width = torch.finfo(model.dtype).bits / 8
    text = model.config.get_text_config()
    layers, size = int(text.num_hidden_layers), int(text.hidden_size)
    outputs = sum(
        module.out_features
        for name, module in model.named_modules()
        if hasattr(module, "out_features") and "lora_" not in name and not hasattr(module, "base_layer")
    )
    # the head is a linear layer too
    inside = KEPT[route] * max(outputs - text.vocab_size, 0) * width
    logits = 0.0 if route is Route.FUSED else LOGITS * text.vocab_size
    return float(logits + (inside / layers + layers * size * width if recompute else inside))


def dequantised_fits(model: Any, dtype: torch.dtype, route: Route) -> bool:
    """Tell whether NF4 weights may stay in `dtype`: rows of the best size must still fit without recomputation."""
    weights = sum(
        module.out_features * module.in_features
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear4bit" and "lora_" not in name
    )
    row = BEST.get(model.device.type, BEST["cuda"]) * bytes_per_token(model, route, recompute=False)
    return bool(weights * dtype.itemsize + row / SHARE <= free_memory(model.device))
