"""From a packed row to its loss: a forward pass of our own for Llama's kin, transformers' for the rest."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from tiararodney.sekft.sft.step import linear
from tiararodney.sekft.sft.step.attention import attending, attending_again, packed_attention
from tiararodney.sekft.sft.step.buffers import Pool, released_after
from tiararodney.sekft.sft.step.layers import Norm, mlp, project, rms_norm, rotate
from tiararodney.sekft.sft.step.linear import Projection
from tiararodney.sekft.sft.step.loss import Loss, head_loss, logits_loss
from tiararodney.sekft.sft.step.pack import Row

# Families whose layers are exactly these: RMS norm, rotary positions, SwiGLU, pre-norm residuals. Qwen2 adds biases,
# Qwen3 norms queries and keys.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def is_written_out(model: Any) -> bool:
    """Tell whether `row_loss` has a forward pass of its own for a model with its adapter in place.

    Args:
        model: The causal language model, LoRA layers injected.

    Returns:
        False for other families, weights divided by FSDP (its hooks gather them for transformers' own forward), sliding
        windows, LoRA with dropout or DoRA, and LoRA on other layers.
    """
    config = model.config
    if isinstance(model, FSDPModule):
        return False
    if config.model_type not in FAMILIES or config.hidden_act != "silu":
        return False
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    return all(_is_plain(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))


def _is_plain(name: str, module: Any) -> bool:
    if name.rsplit(".", 1)[-1] not in PROJECTIONS or not hasattr(module.base_layer, "in_features"):
        return False
    dropout = any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in module.lora_dropout.values())
    biased = any(layer.bias is not None for layer in module.lora_B.values())
    return not dropout and not biased and not module.lora_variant


def row_loss(
    model: Any,
    row: Row,
    adapter: str,
    *,
    checkpointing: bool = False,
    asked: Sequence[int] | None = None,
    pool: Pool | None = None,
) -> Loss:
    """Run a packed row through the model and sum the loss of its trained positions.

    Args:
        model: The causal language model with the LoRA layers of `adapter` active.
        row: The row; a shared prefix only where `is_written_out`.
        adapter: Name of the adapter that is trained.
        checkpointing: Recompute each layer in the backward pass instead of keeping what it computed.
        asked: Ids of tokens whose joint probability is wanted at each trained position.
        pool: Where layers of our own keep what they need for a backward pass. It may run once.

    Returns:
        The loss, differentiable in the adapter's weights.
    """
    device = model.device
    ids = torch.tensor(row.input_ids, device=device)
    positions = torch.tensor(row.position_ids, device=device)
    keep = torch.tensor(row.keep, device=device)
    targets = torch.tensor(row.targets, device=device)
    counts = torch.tensor(row.weights, device=device) if row.weights else None
    wanted = None if asked is None else torch.tensor(asked, device=device)
    if is_written_out(model):
        hidden = _hidden(
            model.model, ids, positions, keep, row, adapter, None if checkpointing else pool, checkpointing
        )
        return head_loss(hidden, model.lm_head.weight, targets, counts, wanted)
    if row.prefix:
        raise ValueError("transformers' own forward knows no shared prefix")
    precision = torch.autocast(device.type, dtype=model.dtype, enabled=model.dtype != torch.float32)
    with precision, transformers_own(model, attending(model, row.lengths)):
        output = model(
            input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), logits_to_keep=keep, use_cache=False
        )
    return logits_loss(output.logits[0], targets, counts, wanted)


@contextmanager
def transformers_own(model: Any, attention: AbstractContextManager[None]) -> Iterator[None]:
    """Have transformers' own forward attend within documents and LoRA's layers not cast, for a `with` block."""
    with attention, disable_input_dtype_casting(model):
        yield


def recomputing(model: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a layer of transformers' own forward under checkpointing: now, and when it is computed again.

    Args:
        model: The causal language model.

    Returns:
        Nothing more than `row_loss` has around it, and the same once more.
    """
    return nullcontext(), transformers_own(model, attending_again(model))


def _hidden(
    decoder: Any,
    ids: torch.Tensor,
    positions: torch.Tensor,
    keep: torch.Tensor,
    row: Row,
    adapter: str,
    pool: Pool | None,
    checkpointing: bool,
) -> torch.Tensor:
    """The normed hidden states at `keep`: [positions, size]."""
    x = decoder.embed_tokens(ids)
    cos, sin = decoder.rotary_emb(x.unsqueeze(0), positions.unsqueeze(0))
    half = cos.shape[-1] // 2
    turn = cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()
    layers = list(decoder.layers)
    for layer in layers[:-1]:
        if checkpointing:
            # nothing here draws random numbers, so there is no state to bring back
            x = checkpoint(_layer, layer, x, turn, row, adapter, use_reentrant=False, preserve_rng_state=False)
        else:
            x = _layer(layer, x, turn, row, adapter, pool=pool)
    x = _layer(layers[-1], x, turn, row, adapter, keep, pool)
    return rms_norm(x, _norm(decoder.norm))


def _layer(
    layer: Any,
    x: torch.Tensor,
    turn: tuple[torch.Tensor, torch.Tensor],
    row: Row,
    adapter: str,
    keep: torch.Tensor | None = None,
    pool: Pool | None = None,
) -> torch.Tensor:
    """One decoder layer, [tokens, size] to the same; after the attention, only the tokens `keep` go on."""
    attention, perceptron = layer.self_attn, layer.mlp
    projections = _lora((attention.q_proj, attention.k_proj, attention.v_proj), adapter)
    (back,) = _lora((attention.o_proj,), adapter)
    gate, up, down = _lora((perceptron.gate_proj, perceptron.up_proj, perceptron.down_proj), adapter)
    block = None
    if pool is not None:
        block = pool.take(len(x) * _kept_per_token(layer, adapter))
        if x.requires_grad:  # the first layer's input has no gradient, and its block goes with the graph
            x = released_after(x, block)
    query, key, value = (
        output.view(len(output), -1, attention.head_dim)
        for output in project(x, projections, norm=_norm(layer.input_layernorm), block=block, passing=2)
    )
    if hasattr(attention, "q_norm"):
        query, key = rms_norm(query, _norm(attention.q_norm)), rms_norm(key, _norm(attention.k_norm))
    attended = packed_attention(
        rotate(query, *turn, block), rotate(key, *turn, block), value.transpose(0, 1),
        row.lengths, row.prefix, attention.scaling, block,
    ).reshape(len(x), -1)  # fmt: skip
    if keep is not None:  # nothing attends to the last layer's output
        attended, x = attended[keep], x[keep]
    (x,) = project(attended, (back,), residual=x, block=block)
    return mlp(x, _norm(layer.post_attention_layernorm), gate, up, down, block)


def kept(model: Any, adapter: str) -> int:
    """Elements that all layers keep of each token for the backward pass.

    Args:
        model: A model that `is_written_out`.
        adapter: Name of the adapter that is trained.

    Returns:
        The outputs of all projections, what is attended to, and the products with LoRA's A.
    """
    return sum(_kept_per_token(layer, adapter) for layer in model.model.layers)


def _kept_per_token(layer: Any, adapter: str) -> int:
    modules = [module for name, module in layer.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS]
    lora = _lora(modules, adapter)
    outputs: int = sum(projection.layer.out_features for projection in lora)
    return outputs + int(layer.self_attn.o_proj.in_features) + linear.ranks(lora)


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
