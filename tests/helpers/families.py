"""Tiny models of many families, for tests that hold of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WINDOW = 16
SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 257,
    "initializer_range": 0.15,  # wide, so that logits differ and a greedy choice is no near-tie
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"sliding_window": WINDOW},
    "gemma3_text": {"sliding_window": WINDOW},
    "gemma4_text": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "gpt_oss": EXPERTS | {"sliding_window": WINDOW},
    "olmo3": {"sliding_window": WINDOW},
    "cohere2": {"sliding_window": WINDOW},
    "mixtral": EXPERTS,
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1},
    "deepseek_v3": {
        "head_dim": 8,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "first_k_dense_replace": 2,
        "n_shared_experts": 1,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3, "block_ff_dim": 96},
    "qwen3_next": LINEAR
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
        "decoder_sparse_step": 1,
    },
    "qwen3_5_text": LINEAR,
    "granitemoehybrid": MAMBA
    | {
        "layer_types": ["mamba", "attention"] * 2,
        "num_local_experts": 0,
        "shared_intermediate_size": 96,
        "position_embedding_type": "rope",
    },
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64, "mamba_n_heads": 4},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 2,
        "mamba_d_state": 8,
    },
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1},
    "bloom": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "minimax": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "granitemoe_swa": {"num_hidden_layers": 2},
}
EMBEDDINGS = 320


def make_model(family: str, **changes: Any) -> Any:
    """Return a random fp32 model of a family, in eval mode and frozen.

    Args:
        family: A key of `FAMILIES`.
        changes: Fields of the configuration that differ.
    """
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**(SHAPE | FAMILIES[family] | changes))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(requires_grad=False)


def make_base(family: str, **changes: Any) -> Any:
    """Return the model as a `Base` without a tokenizer, for what needs no text."""
    import torch

    from tiararodney.sekft.model import Base

    return Base(make_model(family, **changes), None, Path(family), False, "cpu", torch.float32, family)


TARGETS = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]


def save_adapter(folder: Path, base_folder: Path, seed: int = 0) -> Path:
    """An adapter with weights that matter, as plain peft writes it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    tuned.save_pretrained(folder)
    return folder


def make_wrapper(kind: str) -> Any:
    """Return a random model that sees, with a text model inside.

    Args:
        kind: "gemma3" or "mistral3".
    """
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Mistral3Config,
        Mistral3ForConditionalGeneration,
    )

    torch.manual_seed(0)
    text = SHAPE | {"vocab_size": 400, "num_hidden_layers": 2}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    made: Any
    if kind == "gemma3":
        marks = {"image_token_index": 7, "boi_token_index": 8, "eoi_token_index": 9}
        config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **marks)
        made = Gemma3ForConditionalGeneration(config)
    else:
        text |= {"model_type": "mistral", "sliding_window": None}
        config = Mistral3Config(text_config=text, vision_config=vision | {"model_type": "pixtral"}, image_token_index=7)
        made = Mistral3ForConditionalGeneration(config)
    return made.float().eval().requires_grad_(requires_grad=False)


def make_wrapper_base(kind: str) -> Any:
    """Return the model as a `Base` without a tokenizer."""
    import torch

    from tiararodney.sekft.model import Base

    return Base(make_wrapper(kind), None, Path(kind), False, "cpu", torch.float32, kind)
