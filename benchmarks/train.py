"""How fast a training step is: sekft's loop, transformers' Trainer with padding, and TRL's where it is installed.

    python benchmarks/train.py --base DIR [--sessions 8] [--rounds 5] [--no-4bit]

All sides train the same adapter (rank 16, all linear layers) on the same sessions: a common head of 70 tokens, 444-895
tokens each, 16 % of them trained. Sides take turns, one step over all sessions each; figures are medians. A session's
tokens are counted whole on every side, padding never; sekft computes what all sessions begin with once.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the console scripts do; before torch is imported

HEAD, SHORTEST, LONGEST, TRAINED = 70, 444, 895, 0.16
RANK, ALPHA = 16, 32


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--sessions", type=int, default=8, help="sessions of a step (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side (default: %(default)s)")
    parser.add_argument("--padded-batch", type=int, default=4, help="sessions of a padded batch (default: %(default)s)")
    parser.add_argument("--no-4bit", action="store_true", help="bf16 base on all sides")
    args = parser.parse_args()

    sessions = make_sessions(args.sessions)
    sides: dict[str, Callable[[], None]] = {
        "sekft": sekft_side(args.base, sessions, four_bit=not args.no_4bit, share=True),
        "sekft_unshared": sekft_side(args.base, sessions, four_bit=not args.no_4bit, share=False),
        "padded": trainer_side(args.base, sessions, args.padded_batch, four_bit=not args.no_4bit),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(args.rounds + 1):
        for name, step in sides.items():
            wall, busy = time.perf_counter(), time.process_time()
            step()
            if round_:  # the first step of each side warms up
                seconds[name].append(time.perf_counter() - wall)
                cpu[name].append(time.process_time() - busy)
    tokens = sum(len(ids) for ids, _ in sessions)
    trained = sum(label != -100 for _, labels in sessions for label in labels)
    result = report(seconds, cpu, tokens, trained)
    for name in sides:
        print(
            f"{name}: {result['tokens_per_second'][name]:.0f} tokens/s "
            f"({result['trained_tokens_per_second'][name]:.0f} trained)"
        )
    if find_spec("trl") is None:
        print("TRL is not installed: speedup_vs_trl is null")
    print(json.dumps(result))
    return 0


def make_sessions(count: int) -> list[tuple[list[int], list[int]]]:
    """Random ids and labels in the shape of shell sessions; speed does not depend on what they say."""
    rng = random.Random(0)
    head = [rng.randrange(10, 1000) for _ in range(HEAD)]
    sessions = []
    for _ in range(count):
        ids = head + [rng.randrange(10, 1000) for _ in range(rng.randint(SHORTEST, LONGEST) - HEAD)]
        labels = [-100] * len(ids)
        for begin in range(HEAD + 20, len(ids), 60):  # a command of some tokens, then its output
            for at in range(begin, min(begin + round(60 * TRAINED * len(ids) / (len(ids) - HEAD)), len(ids))):
                labels[at] = ids[at]
        sessions.append((ids, labels))
    return sessions


def sekft_side(base_folder: Path, sessions: list[Any], *, four_bit: bool, share: bool) -> Callable[[], None]:
    """One step of sekft-train's own loop."""
    import torch
    from peft import LoraConfig

    from tiararodney.sekft.model import load_base
    from tiararodney.sekft.model.adapters import add_adapter
    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.forward import row_loss
    from tiararodney.sekft.sft.loop import ROW_TOKENS
    from tiararodney.sekft.sft.pack import pack_row, split_step

    base = load_base(base_folder, four_bit=four_bit)
    add_adapter(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"), "bench")
    parameters = [parameter for name, parameter in base.model.named_parameters() if ".bench." in name]
    for parameter in parameters:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    examples = [Example(ids, labels) for ids, labels in sessions]
    lengths = [len(example.input_ids) for example in examples]
    budget = ROW_TOKENS[base.model.device.type]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for members in split_step(range(len(examples)), lengths, budget):
            row = pack_row([examples[index] for index in members], share_prefix=share)
            (row_loss(base.model, row, "bench").total / 1000).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        _wait()

    return step


def trainer_side(base_folder: Path, sessions: list[Any], batch: int, *, four_bit: bool) -> Callable[[], None]:
    """The same step by transformers' Trainer: padded batches, bf16 autocast, gradient accumulation."""
    import tempfile

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    from tiararodney.sekft.model import load_base

    model = get_peft_model(
        load_base(base_folder, four_bit=four_bit, dequantise=False).model,
        LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    model.train()
    batches = [_padded(sessions[at : at + batch], torch) for at in range(0, len(sessions), batch)]
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_accumulation_steps=len(batches),
        report_to=[],
    )
    trainer = Trainer(model=model, args=arguments)
    trainer.create_optimizer()
    trained = torch.tensor(sum(label != -100 for _, labels in sessions for label in labels))

    def step() -> None:
        trainer.optimizer.zero_grad()
        for inputs in batches:
            trainer.training_step(model, dict(inputs), trained.to(model.device))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trainer.optimizer.step()
        _wait()

    return step


def _padded(sessions: list[Any], torch: Any) -> dict[str, Any]:
    width = max(len(ids) for ids, _ in sessions)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in sessions]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in sessions]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in sessions]),
    }


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(seconds: dict[str, list[float]], cpu: dict[str, list[float]], tokens: int, trained: int) -> dict[str, Any]:
    """Medians and ratios of medians; CPU time beside, as a shared machine stalls."""
    import torch

    from tiararodney.sekft.sft.record import versions

    middle = {name: statistics.median(values) for name, values in seconds.items()}
    busy = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "speedup_vs_padded": middle["padded"] / middle["sekft"],
        "speedup_vs_padded_by_cpu_time": busy["padded"] / busy["sekft"],
        "speedup_of_sharing": middle["sekft_unshared"] / middle["sekft"],
        "speedup_vs_trl": None,
        "tokens_per_second": {name: tokens / value for name, value in middle.items()},
        "trained_tokens_per_second": {name: trained / value for name, value in middle.items()},
        "cpu_seconds": busy,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "versions": versions(),
    }


if __name__ == "__main__":
    sys.exit(main())
