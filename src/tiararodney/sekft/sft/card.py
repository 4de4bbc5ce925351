"""The model card: what an adapter is, what it learnt from, how it was trained, under which contract it is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HYPER_PARAMETERS = (
    "optim", "learning_rate", "lr_schedule", "warmup_ratio", "weight_decay", "max_grad_norm", "epochs", "max_steps",
    "tokens_per_batch", "max_length", "terminal_weight", "seed",
)  # fmt: skip
VALIDATED = {
    "validation_loss": "loss (nats a token)",
    "validation_command_accuracy": "tokens of commands predicted",
    "validation_terminal_accuracy": "tokens of terminals predicted",
    "validation_too_early": "probability of ending where the reference goes on",
    "validation_too_late": "probability of going on where the reference ends",
}


def model_card(name: str, record: Mapping[str, Any], contract: Mapping[str, Any]) -> str:
    """Write the card of an adapter.

    Args:
        name: The adapter's.
        record: What is in `training.json`, with its curve.
        contract: What is in `render.json`.

    Returns:
        Markdown with the hub's front matter. It names the base by its folder's name, never a path of the machine.
    """
    config, data, result = record["config"], record["data"], record["result"]
    base = Path(config["base"]).name
    head = {"library_name": "peft", "tags": ["lora", "sekft", "posix-shell"], "base_model": base}
    sections = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items()) + "---\n",
        f"# {name}\n",
        (
            f"A LoRA adapter of {base} that operates a POSIX shell: every reply is one command, the last one is `exit` "
            "(done) or `panic REASON` (blocked). It is no tool caller and takes no task in its prompt. Trained by "
            f"`sekft-train` {record['versions'].get('tiararodney.sekft', '')}.\n"
        ),
        "## What it learnt from\n",
        _table(_data_rows(data), ("trajectories and tokens", "count")),
        "Only commands, terminals and their end-of-turn token are trained; what the shell prints never is.\n",
        "## How it was trained\n",
        _table(
            [
                *((key, config[key]) for key in HYPER_PARAMETERS if config[key]),
                *((key, _short(value)) for key, value in record["lora"].items()),
                ("base held in", "NF4" if record["base"]["four_bit"] else record["base"]["dtype"]),
                ("steps", result["step"]),
                ("tokens seen, and trained", f"{result['tokens']}, {result['trained']}"),
                ("on", f"{record['processes']} x {record['device']}, {result['seconds']:.0f} s"),
            ],
            ("setting", "value"),
        ),
        "## What was measured\n",
        _measured(record),
        "## The contract it is served under\n",
        (
            "Prompts must be rendered with `chat_template.jinja` of this folder: it folds the system turn into the "
            "first user turn and merges turns of one role, as training did. `render.json` is the fingerprint:\n"
        ),
        _table([(key, f"`{contract[key]}`") for key in sorted(contract) if "sha256" in key], ("part", "SHA-256")),
        (
            f"Text of control tokens inside messages: {contract['control_tokens']}. Base weights: "
            f"`{record['base']['fingerprint']}`.\n"
        ),
        "## How to use it\n",
        (
            "    from peft import AutoPeftModelForCausalLM\n    from transformers import AutoTokenizer\n"
            f'    model = AutoPeftModelForCausalLM.from_pretrained("{name}")\n'
            f'    tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        ),
        "Give it a shell that you can afford to lose: it runs what it thinks of.\n",
    ]
    return "\n".join(sections)


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    left_out = sum(data["dropped"].values()), sum(data["refused"].values()), data["over_max_length"]
    return [
        ("read", data["read"]),
        ("kept", data["kept"]),
        ("dropped, refused, over the length", ", ".join(map(str, left_out))),
        ("examples trained on", data["training_examples"]),
        ("examples held back to validate", data["validation_examples"]),
        ("tokens", data["training_tokens"]),
        ("tokens trained", data["trained_tokens"]),
    ]


def _measured(record: Mapping[str, Any]) -> str:
    at = record["result"]["best_step"]
    found = [entry for entry in record["curve"] if "validation_loss" in entry and entry["step"] == at]
    if not found:
        return "Nothing was held back to validate on. `sekft-eval` plays it against its base in fresh worlds.\n"
    rows = [(name, f"{found[-1][key]:.4f}") for key, name in VALIDATED.items() if found[-1][key] is not None]
    return (
        _table(rows, (f"on sessions held back, after step {at}", "value"))
        + "\nEvery turn follows the reference's turns here. How often it does the work by itself, `sekft-eval` tells.\n"
    )


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(rows: Sequence[tuple[str, Any]], head: tuple[str, str]) -> str:
    return "".join(f"| {left} | {right} |\n" for left, right in [head, ("---", "---"), *rows])
