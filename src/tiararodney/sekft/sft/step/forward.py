"""From a packed row to its loss, by one of three routes.

`FUSED`: layers written out here for Llama's kin with frozen weights and LoRA. `PACKED`: transformers' own forward and
masks, which tell documents apart by positions that start anew. `SINGLE`: transformers' own forward, one document at a
time, for families whose layers carry state from token to token, or that do not read positions. Attention is replaced on
the first route only, and that one is taken only where the model has nothing that it does not compute.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tiararodney.sekft.sft.step.attention import packed_attention
from tiararodney.sekft.sft.step.elementwise import rotate
from tiararodney.sekft.sft.step.layers import Norm, Projection, mlp, project, rms_norm
from tiararodney.sekft.sft.step.loss import Loss, concatenate, head_loss, logits_loss
from tiararodney.sekft.sft.step.pack import Row, pack_row

# Families whose layers are exactly these: RMSNorm, rotary positions, SwiGLU, pre-norm residuals. Qwen2 adds biases,
# Qwen3 norms queries and keys.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
# Kinds of layers that see another document only through a mask, which transformers makes from the positions. Chunked
# attention counts its chunks from the start of the row.
MASKED = {"full_attention", "sliding_attention", "attention"}


class Route(StrEnum):
    """How a row goes through a model."""

    FUSED = "fused layers"
    PACKED = "transformers' own layers, packed"
    SINGLE = "transformers' own layers, one session at a time"


def choose_route(model: Any, packing: bool = True) -> Route:
    """Choose the fastest route that computes what a model with its LoRA layers does.

    Args:
        model: The causal language model, LoRA layers injected.
        packing: Whether sessions may share a row.
    """
    if packing and has_fused_forward(model):
        return Route.FUSED
    return Route.PACKED if packing and tells_documents_apart(model) else Route.SINGLE


def has_fused_forward(model: Any) -> bool:
    """Tell whether there is a forward pass of our own for a model with its LoRA layers.

    There is none for other families, weights that are sharded, sliding windows, other activations, LoRA with dropout or
    DoRA, and LoRA on other layers.
    """
    config = model.config
    if config.model_type not in FAMILIES or getattr(config, "hidden_act", "") != "silu":
        return False
    if isinstance(model, FSDPModule) or any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return False
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return False
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    if getattr(config, "pretraining_tp", 1) != 1:
        return False
    return all(_is_plain(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))


def _is_plain(name: str, module: Any) -> bool:
    if name.rsplit(".", 1)[-1] not in PROJECTIONS or not hasattr(module.base_layer, "in_features"):
        return False
    dropout = any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in module.lora_dropout.values())
    biased = any(layer.bias is not None for layer in module.lora_B.values())
    return not dropout and not biased and not module.lora_variant


def tells_documents_apart(model: Any) -> bool:
    """Tell whether transformers' own forward keeps the documents of a packed row apart by their positions.

    It does not where a layer carries state, where the family makes its masks without reading positions, and with
    chunked attention, whose chunks are counted from the start of the row.
    """
    config = model.config.get_text_config()
    if any(getattr(module, "_is_stateful", False) for module in model.modules()):
        return False
    kinds = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    if kinds - MASKED or "position_ids" not in signature(model.forward).parameters:
        return False
    return hasattr(sys.modules[type(model.get_decoder()).__module__], "create_causal_mask")


def row_loss(
    model: Any,
    row: Row,
    adapter: str = "default",
    *,
    route: Route | None = None,
    recompute: bool = False,
    probe_ids: Sequence[int] | None = None,
) -> Loss:
    """Run a packed row through the model and sum the loss of its trained positions.

    Args:
        model: The causal language model with the LoRA layers of `adapter` active, in eval mode but for LoRA's dropout.
        row: The row.
        adapter: Name of the adapter that is trained.
        route: How; None for what `choose_route` says.
        recompute: Recompute each layer in the backward pass instead of keeping what it computed.
        probe_ids: Ids of tokens whose joint probability is wanted at each trained position.

    Returns:
        The loss, differentiable in the adapter's weights.
    """
    route = route or choose_route(model)
    if route is Route.SINGLE and len(row.examples) > 1:
        how: dict[str, Any] = {"route": route, "recompute": recompute, "probe_ids": probe_ids}
        return concatenate([row_loss(model, pack_row([example]), adapter, **how) for example in row.examples])
    device = model.device
    keep = torch.tensor(row.keep, dtype=torch.long, device=device)
    targets = torch.tensor(row.targets, dtype=torch.long, device=device)
    weights = torch.tensor(row.weights, dtype=torch.float32, device=device)
    probed = None if probe_ids is None else torch.tensor(probe_ids, device=device)
    ids, positions = (torch.tensor([values], device=device) for values in (row.input_ids, row.position_ids))
    if route is Route.FUSED:
        hidden = _hidden(model.model, ids, positions, keep, row.lengths, adapter, recompute=recompute)
        return head_loss(hidden, model.lm_head.weight, targets, weights, probed)
    # Alone, a session has the positions that its family counts, which may begin elsewhere.
    known: dict[str, Any] = {"position_ids": positions} if route is Route.PACKED else {}
    parameters = signature(model.forward).parameters
    if "logits_to_keep" in parameters:
        known["logits_to_keep"] = keep
    if "use_cache" in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        known["use_cache"] = False
    precision = torch.autocast(device.type, dtype=model.dtype, enabled=model.dtype != torch.float32)
    with precision, _recomputed(model, recompute):
        logits = model(input_ids=ids, **known).logits[0]
    return logits_loss(logits if "logits_to_keep" in known else logits[keep], targets, weights, probed)


@contextmanager
def _recomputed(model: Any, recompute: bool) -> Iterator[None]:
    """Have the layers that are called meanwhile recomputed in the backward pass.

    transformers' own switch works in training mode alone, which turns the base's dropout on.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)] if recompute else []
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


def _hidden(
    decoder: Any, ids: torch.Tensor, positions: torch.Tensor, keep: torch.Tensor, lengths: tuple[int, ...],
    adapter: str, *, recompute: bool,
) -> torch.Tensor:  # fmt: skip
    """The normed hidden states at `keep`: [positions, size]."""
    x = decoder.embed_tokens(ids[0])
    cos, sin = decoder.rotary_emb(x.unsqueeze(0), positions)
    half = cos.shape[-1] // 2
    angles = cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous()
    layers = list(decoder.layers)
    for layer in layers[:-1]:
        if recompute:
            # nothing here draws random numbers, so there is no state to bring back
            x = checkpoint(_layer, layer, x, angles, lengths, adapter, use_reentrant=False, preserve_rng_state=False)
        else:
            x = _layer(layer, x, angles, lengths, adapter)
    return rms_norm(_layer(layers[-1], x, angles, lengths, adapter, keep), _norm(decoder.norm))


def _layer(
    layer: Any,
    x: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    lengths: tuple[int, ...],
    adapter: str,
    keep: torch.Tensor | None = None,
) -> torch.Tensor:
    """One decoder layer, [tokens, size] to the same; after the attention, only the tokens `keep` go on."""
    attention, perceptron = layer.self_attn, layer.mlp
    projections = _lora((attention.q_proj, attention.k_proj, attention.v_proj), adapter)
    query, key, value = (
        output.view(len(output), -1, attention.head_dim)
        for output in project(x, projections, norm=_norm(layer.input_layernorm))
    )
    if hasattr(attention, "q_norm"):
        query, key = rms_norm(query, _norm(attention.q_norm)), rms_norm(key, _norm(attention.k_norm))
    query, key = rotate(query, *angles), rotate(key, *angles)
    attended = packed_attention(query, key, value, lengths, attention.scaling).reshape(len(x), -1)
    if keep is not None:  # nothing attends to the last layer's output
        attended, x = attended[keep], x[keep]
    (x,) = project(attended, _lora((attention.o_proj,), adapter), residual=x)
    gate, up, down = _lora((perceptron.gate_proj, perceptron.up_proj, perceptron.down_proj), adapter)
    return mlp(x, _norm(layer.post_attention_layernorm), gate, up, down)


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _lora(modules: Sequence[Any], adapter: str) -> list[Projection]:
    return [
        Projection(
            module.base_layer, module.lora_A[adapter].weight, module.lora_B[adapter].weight, module.scaling[adapter]
        )
        if hasattr(module, "lora_A") and adapter in module.lora_A
        else Projection(getattr(module, "base_layer", module))
        for module in modules
    ]
