"""Packed, recomputed and one by one: every family gives the loss and gradients that transformers gives a session."""

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import FAMILIES, SHAPE, make_model  # noqa: E402 - torch first, or the whole module is skipped
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: E402

from tiararodney.sekft.errors import RunFailed  # noqa: E402
from tiararodney.sekft.render import Example  # noqa: E402
from tiararodney.sekft.sft.step import attention, check  # noqa: E402
from tiararodney.sekft.sft.step.check import compare, settle_route  # noqa: E402
from tiararodney.sekft.sft.step.forward import Route, choose_route  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row  # noqa: E402
from tiararodney.sekft.sft.trainer import PackedModel  # noqa: E402

pytestmark = pytest.mark.torch

# Families whose layers carry state, or that do not read positions: sessions go one at a time.
SINGLE = {
    "lfm2", "qwen3_next", "qwen3_5_text", "granitemoehybrid", "falcon_h1", "jamba", "mamba2", "bloom", "minimax",
    "gpt_oss",
}  # fmt: skip
FUSED = {"llama", "qwen3"}
FAST = {
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "gpt_oss", "olmo3", "lfm2", "qwen3_5_text",
    "bloom", "granitemoe_swa",
}  # fmt: skip
LARGEST = 3e7  # weights: some families have sizes that the usual names do not set
LENGTHS = (30, 45, 25)  # longer than the windows of `FAMILIES`


def tuned(family: str, **changes: Any) -> Any:
    """A random model with a LoRA adapter that matters, frozen but for it."""
    plain = make_model(family, **changes)
    # peft refuses the projections that kernels of Mamba fuse
    targets = ["in_proj"] if "mamba" in family or family == "falcon_h1" else "all-linear"
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(plain, lora).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.get_base_model()


def parameters(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def sessions() -> list[Example]:
    """Every token but the first is trained: what one session takes from another shows at its first ones."""
    draw = random.Random(5)
    drawn = ([draw.randrange(3, SHAPE["vocab_size"] - 70) for _ in range(length)] for length in LENGTHS)
    return [Example(ids, [-100, *ids[1:]]) for ids in drawn]


def plain(model: Any) -> tuple[Any, Any]:
    """Losses by position and gradients of sessions alone: transformers' forward, cross entropy, autograd."""
    each = []
    for session in sessions():
        ids = torch.tensor([session.input_ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        each.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none"))
    nll = torch.cat(each)
    return nll.detach(), gradient(model, nll.sum())


def gradient(model: Any, total: Any) -> Any:
    grads = torch.autograd.grad(total, parameters(model), allow_unused=True)
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


@pytest.mark.parametrize(
    "family", [name if name in FAST else pytest.param(name, marks=pytest.mark.sweep) for name in FAMILIES]
)
def test_a_row_is_what_its_sessions_are_alone(family: str):
    model = tuned(family)
    route = settle_route(model, "default", parameters(model), sessions())
    assert route is (Route.FUSED if family in FUSED else Route.SINGLE if family in SINGLE else Route.PACKED)
    assert_same(model, route)


def assert_same(model: Any, route: Route) -> None:
    nll, grads = plain(model)
    packed = PackedModel(model, "default", route).eval()
    for recompute in (False, True):
        loss = packed(pack_row(sessions()), recompute=recompute)
        torch.testing.assert_close(loss.nll, nll, rtol=1e-3, atol=1e-4)
        found = gradient(model, loss.total)
        assert float((found - grads).norm() / grads.norm()) < 1e-3, f"recompute={recompute}"


@pytest.mark.sweep
@pytest.mark.parametrize("family", sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(FAMILIES)))
def test_so_it_is_for_every_family_that_can_be_made_small(family: str, monkeypatch: pytest.MonkeyPatch):
    """Those of transformers' causal models that its usual names make small; the others are skipped with the reason."""
    monkeypatch.setitem(FAMILIES, family, {"num_hidden_layers": 2})
    try:
        with torch.device("meta"):
            size = sum(weight.numel() for weight in make_model(family).parameters())
        if size > LARGEST:
            pytest.skip(f"{size / 1e6:.0f} million weights with the usual names set")
        model = tuned(family)
        plain(model)
    except pytest.skip.Exception:
        raise
    except Exception as error:  # noqa: BLE001 - each family fails in its own way
        pytest.skip(f"cannot be made small: {type(error).__name__}: {str(error)[:100]}")
    assert_same(model, settle_route(model, "default", parameters(model), sessions()))


@pytest.mark.parametrize("family", ["lfm2", "bloom"])
def test_packing_such_a_family_would_be_noticed(family: str):
    """The comparison above can fail."""
    model = tuned(family)
    assert "off by" in (compare(model, "default", parameters(model), sessions(), Route.PACKED) or "")
    assert choose_route(model) is Route.SINGLE, "known before it is tried"


def test_a_family_whose_masks_ignore_positions_goes_one_at_a_time(caplog: Any, monkeypatch: pytest.MonkeyPatch):
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    model = tuned("gpt_oss")
    assert choose_route(model) is Route.PACKED
    assert settle_route(model, "default", parameters(model), sessions()) is Route.SINGLE
    assert any(message.startswith("gpt_oss: transformers mixes up") for message in caplog.messages)


def test_a_family_that_counts_positions_from_elsewhere_goes_one_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(FAMILIES, "roberta", {"num_hidden_layers": 2, "is_decoder": True})
    model = tuned("roberta")
    route = settle_route(model, "default", parameters(model), sessions())
    assert route is Route.SINGLE
    assert_same(model, route)


def test_layers_that_compute_something_else_end_the_run_by_name(monkeypatch: pytest.MonkeyPatch):
    """A window that the fused layers dropped: longer sessions than the check's show it, and so do these."""
    model = tuned("mistral")
    monkeypatch.setattr(check, "choose_route", lambda *_: Route.FUSED)
    with pytest.raises(RunFailed, match=r"^mistral: two sessions in one row .* off by .*--no-packing"):
        settle_route(model, "default", parameters(model), sessions())


# ---- on an accelerator there are kernels to choose from


def leaky(query: Any, key: Any, value: Any, lengths: tuple[int, ...], scale: float) -> Any:
    """One document of them all."""
    return attention.sdpa(query, key, value, (sum(lengths),), scale)


def broken(*_: Any) -> Any:
    raise NotImplementedError("no such kernel on this device")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the CPU have these kernels, in this order, for one test."""

    def have(*those: Any) -> None:
        for name, kernel in those:
            monkeypatch.setitem(attention.KERNELS, name, kernel)
        monkeypatch.setattr(attention, "usable_kernels", lambda *_: [name for name, _ in those])

    monkeypatch.setattr(attention, "chosen", {})
    return have


def test_the_first_kernel_that_agrees_is_used(kernels: Any):
    model = tuned("llama")
    kernels(("broken", broken), ("leaky", leaky), ("right", attention.sdpa))
    settle_route(model, "default", parameters(model), sessions())
    assert attention.chosen["cpu"] == "right"


def test_no_kernel_that_agrees_ends_the_run(kernels: Any):
    model = tuned("llama")
    kernels(("broken", broken), ("leaky", leaky))
    with pytest.raises(RunFailed, match=r"llama: .*broken: NotImplementedError: no such kernel.*leaky: loss off by"):
        settle_route(model, "default", parameters(model), sessions())


def test_half_precision_has_more_kernels_to_try():
    assert attention.usable_kernels("cuda", torch.float32) == ["sdpa"]
    assert attention.usable_kernels("cuda", torch.bfloat16) == ["torch-varlen", "sdpa"]
    assert attention.usable_kernels("cpu", torch.bfloat16) == ["blocked"]


def test_no_kernel_is_tried_inside_a_recomputed_layer(monkeypatch: pytest.MonkeyPatch, kernels: Any):
    """A probe there, with its own backward pass, ended every run with recomputation on CUDA."""
    model = tuned("llama")
    kernels(("right", attention.sdpa))
    settle_route(model, "default", parameters(model), sessions())
    monkeypatch.setattr(check, "compare", broken)
    packed = PackedModel(model, "default", Route.FUSED)
    packed(pack_row(sessions()), recompute=True).total.backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_a_kernel_agrees_with_the_plain_model():
    model = tuned("llama").cuda().bfloat16()
    settle_route(model, "default", parameters(model), sessions())
