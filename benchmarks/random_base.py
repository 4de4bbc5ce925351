"""Make a base model of a named shape with random weights: speed does not depend on what a model has learnt.

    python benchmarks/random_base.py mistral-7b DIR [--seed 0] [--device cuda] [--no-4bit]

Weights are made and quantised to NF4 one layer at a time, so Mistral-7B takes 4 GB of disk and of memory, not 14.5.
The folder is an ordinary quantised one: transformers, TRL and sekft load it as they load anybody's. Its tokenizer has a
token for each byte and a chat template.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "mistral-7b": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32768,
    },
    # the same in small, for a walk through the whole way on a CPU
    "tiny": {
        "num_hidden_layers": 2,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "vocab_size": 1024,
    },
}
SPREAD = 0.02  # standard deviation of the weights, as Mistral's configuration has it
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def main() -> int:
    """Write the folder."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=sorted(SHAPES), help="whose shape the model has")
    parser.add_argument("out", type=Path, help="folder to write to; must not exist")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="what makes them")
    parser.add_argument("--no-4bit", action="store_true", help="keep the weights in bf16")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    save_tokenizer(args.out)
    save_model(args.shape, args.out, args.seed, args.device, four_bit=not args.no_4bit)
    print(args.out)
    return 0


def save_model(shape: str, out: Path, seed: int, device: str, *, four_bit: bool) -> None:
    """Write configuration and weights.

    Args:
        shape: A key of `SHAPES`.
        out: The folder.
        seed: Of the weights.
        device: What makes and quantises them.
        four_bit: Quantise the linear layers, but for the head, to NF4.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import MistralConfig, MistralForCausalLM

    from tiararodney.sekft.model.fourbit import quantisation_config

    config = MistralConfig(**SHAPES[shape], sliding_window=None, tie_word_embeddings=False, dtype="bfloat16")
    with torch.device("meta"):
        model = MistralForCausalLM(config)
    generator = torch.Generator(device).manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        weight = torch.empty(parameter.shape, dtype=torch.bfloat16, device=device)
        if parameter.dim() == 1:  # a norm's
            weight.fill_(1)
        else:
            weight.normal_(0, SPREAD, generator=generator)
        layer = name.removesuffix(".weight")
        if four_bit and isinstance(model.get_submodule(layer), torch.nn.Linear) and layer != "lm_head":
            tensors |= {f"{layer}.{key}": value.cpu() for key, value in quantised(weight).items()}
        else:
            tensors[name] = weight.cpu()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    told: dict[str, Any] = config.to_dict() | {"architectures": ["MistralForCausalLM"]}
    if four_bit:
        told["quantization_config"] = quantisation_config().to_dict()
    (out / "config.json").write_text(json.dumps(told, indent=2, default=str) + "\n", encoding="utf-8")


def quantised(weight: Any) -> dict[str, Any]:
    """Quantise one weight as the project's one 4-bit setting does.

    Args:
        weight: [outputs, inputs].

    Returns:
        The tensors that bitsandbytes stores for it, by their names within the layer.
    """
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return {"weight": packed} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}


def save_tokenizer(out: Path) -> None:
    """Write a tokenizer of single bytes.

    Args:
        out: The folder.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    specials = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
    words = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={word: at for at, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in specials])
    backend.save(str(out / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    told = named | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (out / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
