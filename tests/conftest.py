"""A tiny random base model, made in the test run itself: no hub, no file of anybody's."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: one thread is plenty for these models, and waiting threads that spin starve everything else.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ChatML as SmolLM2 has it, with the default system prompt that such templates inject when there is none.
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = [
    "cat /etc/motd\nls -la\ngrep -r pattern . | sort | uniq -c\n$ exit\n$ panic no such provider\n",
    "You are in a terminal. What you type is run by the shell. user assistant system\n",
    "mkdir -p out && cp notes.txt out/ && wc -l out/notes.txt > out/count\n",
    "Directives are handed out by tasks. Run tasks --help to see how. total 12 drwxr-xr-x\n",
]


def save_tokenizer(folder: Path) -> None:
    """Train a small byte-level BPE tokenizer and write it with the template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make model folders: `make_base(seed=0, dtype="float32", **config)` -> folder."""
    pytest.importorskip("torch", reason="needs torch (extra gpu)")

    def make(seed: int = 0, dtype: str = "float32", **config: Any) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        folder = tmp_path_factory.mktemp("base")
        save_tokenizer(folder)
        shape = {
            "vocab_size": 400,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "initializer_range": 0.15,  # wide, so that logits differ and a greedy choice is no near-tie
            "tie_word_embeddings": True,
        }
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(shape | config)))
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(make_base: Callable[..., Path]) -> Path:
    """A base model folder: Llama, 2 layers, hidden 64, fp32 weights, ChatML template."""
    return make_base()
