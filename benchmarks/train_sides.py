"""One side of `train.py`, in a process of its own: sets up, then makes a step for every line it reads.

Not a command for people: `train.py` starts it, once for each side, and talks to it over its standard streams.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import settle_libraries

if TYPE_CHECKING:
    from collections.abc import Callable


HEAD, SHORTEST, LONGEST, TRAINED = 70, 444, 895, 0.16
RANK, ALPHA = 16, 32
TRL_ROW = 1024  # what SFTConfig packs to by default


@dataclass(frozen=True)
class Work:
    """What every side trains.

    Attributes:
        base: Folder of the base model.
        sessions: Ids and labels of each session of a step.
        four_bit: Hold the base as NF4.
        batch: Sessions of a padded batch; 0 leaves it to the side.
        row: Tokens of a packed row; 0 leaves it to the side.
    """

    base: Path
    sessions: list[tuple[list[int], list[int]]]
    four_bit: bool
    batch: int = 0
    row: int = 0


def make_sessions(count: int, longest: int = LONGEST) -> list[tuple[list[int], list[int]]]:
    """Random ids and labels in the shape of shell sessions; speed does not depend on what they say.

    Args:
        count: Sessions.
        longest: Tokens of the longest; the shortest has half as many.

    Returns:
        Ids and labels of each: a common head, 16 % of the tokens trained.
    """
    rng = random.Random(0)
    head = [rng.randrange(10, 1000) for _ in range(HEAD)]
    sessions = []
    for _ in range(count):
        own = rng.randint(longest * SHORTEST // LONGEST, longest) - HEAD
        ids = head + [rng.randrange(10, 1000) for _ in range(own)]
        labels = [-100] * len(ids)
        for begin in range(HEAD + 20, len(ids), 60):  # a command of some tokens, then its output
            for at in range(begin, min(begin + round(60 * TRAINED * len(ids) / (len(ids) - HEAD)), len(ids))):
                labels[at] = ids[at]
        sessions.append((ids, labels))
    return sessions


def sekft(work: Work, *, recompute: bool = False) -> tuple[Callable[[], None], int]:
    """A step as `sekft-train` makes it: its own packing and layers, the Trainer's optimizer."""
    import torch
    from peft import LoraConfig
    from transformers import TrainingArguments

    from tiararodney.sekft.model import fourbit, load_base
    from tiararodney.sekft.model.adapters import add_adapter
    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.callbacks import Stop
    from tiararodney.sekft.sft.sizing import BEST, Size, dequantised_fits
    from tiararodney.sekft.sft.step.forward import choose_route
    from tiararodney.sekft.sft.step.pack import total_weight
    from tiararodney.sekft.sft.trainer import PackedModel, PackedTrainer

    base = load_base(work.base, four_bit=work.four_bit, dequantise=False)
    before = held()
    route = choose_route(base.model)
    if work.four_bit and dequantised_fits(base.model, base.dtype, route):
        fourbit.dequantise(base.model, base.dtype)
    add_adapter(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"), "bench")
    for name, parameter in base.model.named_parameters():
        if ".bench." in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(requires_grad=True)
    examples = [Example(ids, labels) for ids, labels in work.sessions]
    trainer = PackedTrainer(
        PackedModel(base.model, "bench", route),
        TrainingArguments(tempfile.mkdtemp(), use_cpu=not _cuda(), report_to="none", max_steps=1),
        training=examples,
        validation=[],
        steps=[range(len(examples))],
        size=Size(work.row or BEST[base.model.device.type], 0 if recompute else None),
        recompute="never",
        identity={},
        should_stop=Stop(),
        callbacks=[],
    )
    trainer.create_optimizer()
    weight = total_weight(examples)

    def step() -> None:
        trainer.optimizer.zero_grad()
        trainer.training_step(trainer.model, examples, weight)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()

    return step, before


def padded(work: Work, *, checkpointing: bool = False) -> tuple[Callable[[], None], int]:
    """The same step by transformers' Trainer: padded batches, autocast, gradient accumulation."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainingArguments

    model, before = _plain_base(work)
    model = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    if checkpointing:
        model.enable_input_require_grads()
    batch = work.batch or 4
    batches = [_pad(work.sessions[at : at + batch]) for at in range(0, len(work.sessions), batch)]
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        bf16=_is_bf16(model),
        use_cpu=not _cuda(),
        gradient_checkpointing=checkpointing,
        gradient_accumulation_steps=len(batches),
        report_to=[],
    )
    return _trainer_step(Trainer(model=model, args=arguments), batches), before


def trl(work: Work, **settings: Any) -> tuple[Callable[[], None], int]:
    """The same step by TRL's SFTTrainer, its data prepared by itself from ids and ready-made labels."""
    import datasets
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    model, before = _plain_base(work)
    rows = {"input_ids": [ids for ids, _ in work.sessions], "labels": [labels for _, labels in work.sessions]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(work.base / "tokenizer.json"))
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.convert_ids_to_tokens(2)
    if settings.get("packing"):
        settings["max_length"] = max(work.row or TRL_ROW, *(len(ids) for ids in rows["input_ids"]))
        settings.setdefault("per_device_train_batch_size", 1)
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=not _cuda(),
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=_is_bf16(model),
        **{"max_length": None} | settings,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    batches = [dict(batch) for batch in trainer.get_train_dataloader()]
    seen = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    wanted = sum(label != -100 for _, labels in work.sessions for label in labels)
    assert seen == wanted, f"TRL trains {seen} of {wanted} tokens: the sides would not do the same work"
    trainer.args.gradient_accumulation_steps = trainer.accelerator.gradient_accumulation_steps = len(batches)
    return _trainer_step(trainer, batches), before


def _trainer_step(trainer: Any, batches: list[dict[str, Any]]) -> Callable[[], None]:
    import torch

    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = len(batches)
    model = trainer.model
    model.train()
    trained = torch.tensor(sum(int((batch["labels"] != -100).sum()) for batch in batches), device=model.device)

    def step() -> None:
        trainer.optimizer.zero_grad()
        for batch in batches:
            trainer.training_step(model, dict(batch), trained)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trainer.optimizer.step()

    return step


def _is_bf16(model: Any) -> bool:
    """Whether the base was loaded in bf16: the compute type is what the machine multiplies fast, on all sides."""
    import torch

    return bool(model.dtype == torch.bfloat16)


def _plain_base(work: Work) -> tuple[Any, int]:
    """The base as its users load it: NF4 by bitsandbytes, nothing kept dequantised."""
    from tiararodney.sekft.model import load_base

    base = load_base(work.base, four_bit=work.four_bit, dequantise=False)
    return base.model, held()


def _pad(sessions: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    import torch

    width = max(len(ids) for ids, _ in sessions)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in sessions]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in sessions]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in sessions]),
    }


SIDES: dict[str, Callable[[Work], tuple[Callable[[], None], int]]] = {
    "sekft": sekft,
    "sekft_checkpointed": lambda work: sekft(work, recompute=True),
    "padded": padded,
    "padded_checkpointed": lambda work: padded(work, checkpointing=True),
    # what a user gets who changes nothing, but for as many sessions a batch as there are
    "trl_default": trl,
    # no padding in three ways; the fastest of them on this machine is TRL's best
    "trl_packed": lambda work: trl(work, packing=True, gradient_checkpointing=False),
    "trl_padding_free": lambda work: trl(
        work, padding_free=True, gradient_checkpointing=False, per_device_train_batch_size=work.batch or 4
    ),
    "trl_single": lambda work: trl(work, gradient_checkpointing=False, per_device_train_batch_size=1),
    "trl_packed_checkpointed": lambda work: trl(work, packing=True),
    "trl_single_checkpointed": lambda work: trl(work, per_device_train_batch_size=1),
}


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def held() -> int:
    """Memory in use now, bytes: of the accelerator where there is one, else of the process."""
    import torch

    gc.collect()
    give_back()
    if _cuda():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    return _status("VmRSS")


def give_back() -> None:
    """Return what is free: the sides share one machine, and a peak must not hold what a loader left over."""
    import torch

    if _cuda():
        torch.cuda.empty_cache()
    else:
        ctypes.CDLL(None).malloc_trim(0)


def peak() -> int:
    """The most that was in use since `held`, bytes."""
    import torch

    return int(torch.cuda.max_memory_allocated()) if _cuda() else _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def main() -> None:
    """Set up the side that the first line names, then make a step for every line after it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    wanted = json.loads(sys.stdin.readline())
    if wanted["side"].startswith("sekft"):
        settle_libraries()  # as sekft-train does before torch is imported
    else:  # the same for all: no side may keep the cores from the others
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    sessions = make_sessions(wanted["sessions"], wanted["longest"])
    work = Work(Path(wanted["base"]), sessions, wanted["four_bit"], wanted["batch"], wanted["row"])
    step, before = SIDES[wanted["side"]](work)
    import torch

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        wall, busy = time.perf_counter(), time.process_time()
        step()
        if _cuda():
            torch.cuda.synchronize()
        told = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - busy}
        told |= {"memory_growth": peak() - before}
        give_back()
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
