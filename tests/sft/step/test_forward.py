"""The fused forward and backward pass against transformers' and peft's, unpacked, with full logits."""

import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from peft import LoraConfig, get_peft_model  # noqa: E402 - torch first, or the whole module is skipped
from transformers import (  # noqa: E402
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tiararodney.sekft.render import IGNORED, Example  # noqa: E402
from tiararodney.sekft.sft.step import attention, elementwise  # noqa: E402
from tiararodney.sekft.sft.step.forward import has_fused_forward, row_loss  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row  # noqa: E402

pytestmark = pytest.mark.torch

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.15,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {}),
    "llama tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
}
FUSED = [name for name in FAMILIES if name != "gemma"]


def tuned(family: str, **lora: Any) -> Any:
    """A random model with a LoRA adapter that matters, in fp32."""
    model_class, config_class, more = FAMILIES[family]
    torch.manual_seed(0)
    model = get_peft_model(model_class(config_class(**SHAPE, **more)), LoraConfig(r=4, lora_alpha=8, **lora))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def sessions(count: int = 3, head: int = 9) -> list[Example]:
    """Examples that begin alike, of different lengths, trained here and there."""
    rng = random.Random(5)
    begin = [rng.randrange(1, 200) for _ in range(head)]
    out = []
    for at in range(count):
        ids = begin + [rng.randrange(1, 200) for _ in range((20, 150, 290, 40)[at])]
        labels = [token if place > head and rng.random() < 0.3 else IGNORED for place, token in enumerate(ids)]
        labels[-1] = ids[-1]
        out.append(Example(ids, labels))
    return out


def reference(model: Any, examples: list[Example]) -> tuple[float, dict[str, Any]]:
    """The plain loop: one example at a time, all logits, cross entropy with labels shifted, autograd."""
    model.zero_grad()
    total = torch.zeros(())
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        total = total + torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    total.backward()
    return float(total.detach()), gradients(model)


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def ours(model: Any, examples: list[Example], **how: Any) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    loss = row_loss(model.get_base_model(), pack_row(examples), "default", **how)
    loss.total.backward()
    return float(loss.total.detach()), gradients(model)


def assert_same(one: tuple[float, dict[str, Any]], other: tuple[float, dict[str, Any]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    assert one[1]
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-3, atol=1e-4 * float(other[1][name].abs().max()))


@pytest.mark.parametrize("family", FUSED)
def test_a_packed_row_is_the_unpacked_reference_loop(family: str):
    model = tuned(family, target_modules="all-linear")
    assert has_fused_forward(model.get_base_model())
    assert_same(ours(model, sessions()), reference(model, sessions()))


def test_transformers_own_forward_serves_the_families_that_are_not_written_out():
    model = tuned("gemma", target_modules="all-linear")
    assert not has_fused_forward(model.get_base_model())
    assert_same(ours(model, sessions()), reference(model, sessions()))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"], ["o_proj", "up_proj"]])
def test_layers_without_lora_pass_gradients_on(targets: list[str]):
    model = tuned("llama", target_modules=targets)
    assert_same(ours(model, sessions()), reference(model, sessions()))


def test_recomputation_changes_nothing():
    model = tuned("llama", target_modules="all-linear")
    plain, again = ours(model, sessions()), ours(model, sessions(), recompute=True)
    assert plain[0] == again[0]
    assert all(torch.equal(plain[1][name], again[1][name]) for name in plain[1])


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}, {"target_modules": ["embed_tokens"]}])
def test_lora_that_the_written_out_layers_do_not_know_goes_through_peft(lora: dict[str, Any]):
    model = tuned("llama", **({"target_modules": "all-linear"} | lora))
    assert not has_fused_forward(model.get_base_model())


def test_dora_through_peft_matches_the_reference():
    model = tuned("llama", target_modules=["q_proj", "down_proj"], use_dora=True)
    assert_same(ours(model, sessions(2)), reference(model, sessions(2)))


def test_no_document_sees_another():
    """Whatever the other documents say, a document's loss stays bit for bit what it was."""
    model = tuned("llama", target_modules="all-linear")
    first, second, third = sessions()

    other = Example([*first.input_ids[:9], *(7 for _ in first.input_ids[9:])], first.labels)
    skip, count = (sum(label != IGNORED for label in example.labels) for example in (first, second))
    one, another = (_states(model, pack_row([before, second, third])) for before in (first, other))
    assert not torch.equal(one[:skip], another[:skip])
    assert torch.equal(one[skip : skip + count], another[skip : skip + count])


def _states(model: Any, row: Any) -> Any:
    """The hidden states that the head gets."""
    from unittest import mock

    from tiararodney.sekft.sft.step import forward

    seen: list[Any] = []
    real = forward.head_loss
    with mock.patch.object(forward, "head_loss", lambda h, *rest: (seen.append(h.detach()), real(h, *rest))[1]):
        row_loss(model.get_base_model(), row, "default")
    return seen[0]


def attended(attend: Any, lengths: tuple[int, ...], heads: int = 4, key_heads: int = 2) -> list[Any]:
    """Output and gradients of attention over random queries, keys and values."""
    torch.manual_seed(1)
    tensors = [torch.randn(sum(lengths), n, 8, requires_grad=True) for n in (heads, key_heads, key_heads)]
    output = attend(*tensors, lengths, 0.3)
    assert output.shape == (sum(lengths), heads, 8)
    return [output, *torch.autograd.grad(output.square().sum(), tensors)]


def dense(query: Any, key: Any, value: Any, lengths: tuple[int, ...], scale: float) -> Any:
    """Attention by its definition over the whole row, with a mask of documents."""
    group = query.shape[1] // key.shape[1]
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    seen = (document[:, None] == document) & torch.ones(len(query), len(query)).tril().bool()
    scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(group, 1)) * scale
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value.repeat_interleave(group, 1))


@pytest.mark.parametrize("kernel", ["sdpa", "blocked"])
@pytest.mark.parametrize("heads", [(4, 2), (3, 1), (2, 2)])
def test_each_document_attends_to_itself_alone(heads: tuple[int, int], kernel: str):
    lengths = (150, 1, 300)  # longer than a block of queries, so that blocks are put together
    found, expected = attended(attention.KERNELS[kernel], lengths, *heads), attended(dense, lengths, *heads)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_elementwise_parts_compute_the_same(dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What CUDA runs compiled, compiled here for the CPU, for rows of two lengths."""
    # torch hands out kernels of an earlier process even where that one was limited to other instructions
    # (ATEN_CPU_CAPABILITY), and those corrupt memory.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    if not elementwise.can_compile("cpu"):
        pytest.skip("needs a C++ compiler and Python's headers")
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(dtype)

    for tokens in (33, 70):
        x, grad, up, weight = random(tokens, 64), random(tokens, 64), random(tokens, 64), random(64)
        inverse = torch.rand(tokens, 1, generator=generator) + 0.5
        cases = {
            elementwise.normalise: (x, weight, 1e-5),
            elementwise.normalise_backward: (grad, x, weight, inverse),
            elementwise.rotate: (random(tokens, 4, 16), random(tokens, 1, 8), random(tokens, 1, 8)),
            elementwise.swiglu: (x, up),
            elementwise.swiglu_backward: (grad, x, up),
        }
        for function, arguments in cases.items():
            plain, compiled = function(*arguments), elementwise._compiled(function.__wrapped__)(*arguments)
            many = plain if isinstance(plain, tuple) else (plain,)
            for one, other in zip(many, compiled if isinstance(plain, tuple) else (compiled,), strict=True):
                assert one.dtype == other.dtype
                limit = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
                torch.testing.assert_close(one, other, **limit)


def test_a_compiled_rotation_has_the_plain_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    if not elementwise.can_compile("cpu"):
        pytest.skip("needs a C++ compiler and Python's headers")
    torch.manual_seed(0)
    x, angles = torch.randn(33, 4, 16, requires_grad=True), (torch.randn(33, 1, 8), torch.randn(33, 1, 8))
    plain, compiled = (
        torch.autograd.grad(rotate(x, *angles).square().sum(), x)[0]
        for rotate in (elementwise.rotate, elementwise._compiled(elementwise.rotate.__wrapped__))
    )
    torch.testing.assert_close(compiled, plain)


def test_bf16_gradients_stay_as_near_to_fp32_as_autocast_ones():
    """The fused pass may round otherwise than autocast does, not worse."""
    model, examples = tuned("llama", target_modules="all-linear"), sessions()
    exact = reference(model, examples)[1]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        autocast = reference(model, examples)[1]
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    own = ours(model, examples)[1]

    def off(found: dict[str, Any]) -> float:
        errors = [float((found[name].float() - exact[name]).norm() / exact[name].norm()) for name in exact]
        return sum(errors) / len(errors)

    assert off(own) < 1.5 * off(autocast)
