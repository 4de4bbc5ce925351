"""A whole run against a plain loop: peft, transformers, full logits, one session at a time, no code of ours."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from safetensors.torch import load_file  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.render import Example  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.data import read_examples  # noqa: E402
from tiararodney.sekft.sft.step.pack import plan_steps  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402
from tiararodney.sekft.tokenizer import load_tokenizer  # noqa: E402

pytestmark = pytest.mark.torch

STEPS = 6


def plain_run(config: TrainConfig, **lora: Any) -> tuple[list[float], dict[str, Any], Any]:
    """The losses, the weights as peft names them, and the gradient-free model, by the plainest loop there is."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    examples = read_examples(config, load_tokenizer(config.base)).training
    lengths = [len(example.input_ids) for example in examples]
    steps, _ = plan_steps(lengths, config.tokens_per_batch, config.epochs, config.seed)
    steps = steps[: config.max_steps]
    base = AutoModelForCausalLM.from_pretrained(config.base, dtype=torch.float32)
    torch.manual_seed(config.seed)
    shape = LoraConfig(r=config.lora_r, lora_alpha=config.lora_alpha, target_modules="all-linear", **lora)
    model = get_peft_model(base, shape)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    warmup = int(config.warmup_ratio * len(steps))
    losses = []
    for number, step in enumerate(steps):
        done = (number - warmup) / (len(steps) - warmup)
        rate = number / warmup if number < warmup else 0.5 * (1 + math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate
        optimizer.zero_grad()
        loss = mean_loss(model, [examples[index] for index in step], config.terminal_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, get_peft_model_state_dict(model), model


def mean_loss(model: Any, examples: list[Example], terminal_weight: float) -> Any:
    total, counts = torch.zeros(()), 0.0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0]
        for at, ((start, end), _) in enumerate(zip(example.spans, example.turns, strict=True)):
            count = terminal_weight if at == len(example.spans) - 1 else 1.0
            each = torch.nn.functional.cross_entropy(
                logits[start - 1 : end - 1], torch.tensor(example.input_ids[start:end]), reduction="sum"
            )
            total, counts = total + count * each, counts + count * (end - start)
    return total / counts


@pytest.mark.parametrize(
    ("settings", "lora"),
    [
        ({"weight_decay": 0.01, "warmup_ratio": 0.34}, {}),
        ({"use_rslora": True}, {"use_rslora": True}),
        ({"use_dora": True}, {"use_dora": True}),
        ({"terminal_weight": 3.0}, {}),
        ({"gradient_checkpointing": "always", "seed": 3}, {}),
    ],
    ids=["decay and warm-up", "rslora", "dora", "terminals weighed", "checkpointing"],
)
def test_losses_and_adapter_are_those_of_the_plain_loop(
    configure: Callable[..., TrainConfig], settings: dict[str, Any], lora: dict[str, Any]
):
    config = configure(max_steps=STEPS, epochs=float(STEPS), tokens_per_row=400, **settings)
    expected, weights, _ = plain_run(config, **lora)
    out = train(config)
    losses = [json.loads(line)["loss"] for line in (out / "curve.jsonl").read_text().splitlines()]
    assert losses == pytest.approx(expected, rel=1e-4)
    found = load_file(out / "adapter_model.safetensors")
    assert {key.removeprefix("base_model.model.") for key in found} == {
        key.removeprefix("base_model.model.") for key in weights
    }
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, weights[key], rtol=1e-2, atol=2e-3, msg=key)


def test_the_plain_loop_tells_another_run_apart(configure: Callable[..., TrainConfig], tmp_path: Path):
    """The comparison above can fail: each setting in it makes another adapter."""
    config = configure(max_steps=STEPS, epochs=float(STEPS))
    expected, _, _ = plain_run(config)
    for name, settings in {
        "rslora": {"use_rslora": True},
        "dora": {"use_dora": True},
        "weighed": {"terminal_weight": 3.0},
        "warm": {"warmup_ratio": 0.34},
    }.items():
        out = train(replace(config, out=tmp_path / name, **settings))
        losses = [json.loads(line)["loss"] for line in (out / "curve.jsonl").read_text().splitlines()]
        assert losses != pytest.approx(expected, rel=1e-4), name


def test_dora_is_read_again_by_plain_peft(configure: Callable[..., TrainConfig]):
    config = configure(max_steps=STEPS, epochs=float(STEPS), use_dora=True)
    _, _, reference = plain_run(config, use_dora=True)
    out = train(config)
    from peft import AutoPeftModelForCausalLM

    ids = torch.tensor([list(range(5, 60))])
    loaded = AutoPeftModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, reference(input_ids=ids).logits, rtol=1e-2, atol=2e-2)
