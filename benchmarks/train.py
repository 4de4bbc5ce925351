"""How fast and how lean a training step is: sekft's loop, TRL's SFTTrainer, transformers' Trainer with padding.

    python benchmarks/train.py --base DIR [--short] [--sessions 8] [--rounds 5] [--sides sekft,trl_packed] [--no-4bit]

All sides train the same adapter (rank 16, all linear layers) on the same NF4 base and the same sessions: a common head
of 70 tokens, 444-895 tokens each, 16 % of them trained. Each side has a process of its own, so that each has its own
peak of memory; they take turns, one optimizer step over all sessions each. Figures are medians of the rounds after the
first. All sides compute in the type that the machine multiplies fast. A session's tokens are counted on every side,
padding never. `--short` takes three sessions, four rounds and the three sides that matter: some minutes on two cores.
TRL's best is the fastest of its settings without padding; its default is `SFTConfig` as it comes.
`mfu` is the share of an accelerator's dense bf16 peak that these tokens stand for: 4 operations a token for each weight
of a matrix product with LoRA, 6 where every layer is computed twice.
Memory is the growth from the loaded NF4 base to the peak of a step, sekft's dequantised weights counted in.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from train_sides import LONGEST, SIDES, make_sessions

SHORT = {"sessions": 3, "rounds": 4, "sides": "sekft,padded,trl_packed"}
FULL = ("trl_packed", "trl_padding_free", "trl_single")
# Dense bf16 operations a second by the makers' data sheets; a name's more special form stands first.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
LEAN = ("trl_packed_checkpointed", "trl_single_checkpointed")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--sessions", type=int, default=8, help="sessions of a step (default: %(default)s)")
    parser.add_argument("--longest", type=int, default=LONGEST, help="tokens of the longest (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=0, help="sessions of a padded batch (default: each side's own)")
    parser.add_argument("--row", type=int, default=0, help="tokens of a packed row (default: each side's own)")
    parser.add_argument("--sides", default=",".join(SIDES), help="which to run (default: %(default)s)")
    parser.add_argument("--no-4bit", action="store_true", help="bf16 base on all sides")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the result here too")
    parser.add_argument("--short", action="store_true", help="few rounds of " + ", ".join(SHORT["sides"].split(",")))
    args = parser.parse_args()
    if args.short:
        vars(args).update(SHORT)
    names = args.sides.split(",")
    if unknown := set(names) - set(SIDES):
        parser.error(f"--sides: {', '.join(sorted(unknown))}: expected some of {', '.join(SIDES)}")
    if find_spec("trl") is None:
        print("TRL is not installed (pip install trl): its figures are null", file=sys.stderr)
        names = [name for name in names if not name.startswith("trl")]

    with ExitStack() as stack:
        sides = {name: _start(stack, name, args) for name in names}
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for round_ in range(args.rounds + 1):
            for name, side in list(sides.items()):
                answer = _ask(side, "step", name)
                if answer is None:  # out of memory, most likely: its figures are null, the others go on
                    del sides[name], steps[name]
                elif round_:  # the first step of each side warms up
                    steps[name].append(answer)
            print(f"round {round_}/{args.rounds}", file=sys.stderr)
    sessions = make_sessions(args.sessions, args.longest)
    result = report(
        steps,
        tokens=sum(len(ids) for ids, _ in sessions),
        trained=sum(label != -100 for _, labels in sessions for label in labels),
        weights=multiplied_weights(args.base),
    )
    # no folder of this machine: the record is handed on
    command = [Path(arg).name if arg in {str(args.base), str(args.save)} else arg for arg in sys.argv[1:]]
    result |= {"command": command, "base_model": args.base.name}
    for name in steps:
        print(
            f"{name}: {result['tokens_per_second'][name]:.0f} tokens/s "
            f"({result['trained_tokens_per_second'][name]:.0f} trained), "
            f"{result['memory_growth'][name] / 1e9:.2f} GB over the loaded base"
        )
    if args.save is not None:
        args.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def multiplied_weights(base: Path) -> int:
    """Count the weights that every token is multiplied with: all but norms and the embedding's table.

    Args:
        base: The model's folder.

    Returns:
        Mistral-7B has 7.11e9.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return sum(layer.weight.numel() for layer in layers)


def mfu(name: str, speed: float, weights: int, device: str) -> float | None:
    """The share of a device's peak that a speed stands for.

    Args:
        name: The side's.
        speed: Tokens a second.
        weights: See `multiplied_weights`.
        device: The device's name.

    Returns:
        None where the device's peak is not known.
    """
    peak = next((peak for part, peak in PEAKS.items() if part in device), None)
    operations = (6 if name.endswith("checkpointed") or name == "trl_default" else 4) * weights
    return None if peak is None else speed * operations / peak


def _start(stack: ExitStack, name: str, args: argparse.Namespace) -> subprocess.Popen[str]:
    side = stack.enter_context(
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("train_sides.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
    )
    stack.callback(side.kill)
    told = {"side": name, "base": str(args.base), "sessions": args.sessions, "longest": args.longest}
    _ask(side, json.dumps(told | {"four_bit": not args.no_4bit, "batch": args.batch, "row": args.row}), name)
    return side


def _ask(side: subprocess.Popen[str], line: str, name: str) -> dict[str, float] | None:
    assert side.stdin is not None
    assert side.stdout is not None
    if side.poll() is not None:  # it ended while it was set up
        return None
    print(line, file=side.stdin, flush=True)
    answer = side.stdout.readline()
    if not answer:
        print(f"{name} ended with {side.wait()}; what it said stands above", file=sys.stderr)
        return None
    told: dict[str, float] = json.loads(answer)
    return told


def report(steps: dict[str, list[dict[str, float]]], tokens: int, trained: int, weights: int) -> dict[str, Any]:
    """Medians and their ratios; CPU time beside, as a shared machine stalls.

    Args:
        steps: What each side measured in each round.
        tokens: Tokens of a step.
        trained: Trained tokens of a step.
        weights: See `multiplied_weights`.

    Returns:
        The JSON object. A ratio is None where a side was not run.
    """
    import torch

    from tiararodney.sekft.provenance import versions

    def middle(key: str) -> dict[str, float]:
        return {name: statistics.median(step[key] for step in told) for name, told in steps.items()}

    seconds, busy = middle("seconds"), middle("cpu_seconds")
    memory = {name: max(step["memory_growth"] for step in told) for name, told in steps.items()}

    def fastest(names: tuple[str, ...]) -> str:
        return min((name for name in names if name in seconds), key=seconds.__getitem__, default="")

    def over(values: dict[str, float], one: str, other: str) -> float | None:
        return values[one] / values[other] if one in values and other in values else None

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    best, lean = fastest(FULL), fastest(LEAN)
    return {
        "speedup_vs_trl": over(seconds, best, "sekft"),
        "speedup_vs_trl_default": over(seconds, "trl_default", "sekft"),
        "speedup_vs_padded": over(seconds, "padded", "sekft"),
        "memory_vs_trl": over(memory, "sekft", best),
        "memory_vs_trl_checkpointed": over(memory, "sekft_checkpointed", lean),
        "speedup_vs_trl_by_cpu_time": over(busy, best, "sekft"),
        "speedup_vs_trl_checkpointed": over(seconds, lean, "sekft_checkpointed"),
        "trl_best": best or None,
        "trl_best_checkpointed": lean or None,
        "tokens_per_second": {name: tokens / value for name, value in seconds.items()},
        "trained_tokens_per_second": {name: trained / value for name, value in seconds.items()},
        "mfu": {name: mfu(name, tokens / value, weights, device) for name, value in seconds.items()},
        "memory_growth": memory,
        "cpu_seconds": busy,
        "threads": torch.get_num_threads(),
        "device": device,
        "versions": versions(),
    }


if __name__ == "__main__":
    sys.exit(main())
