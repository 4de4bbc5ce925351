"""The model card: what an adapter is, its data, how it was trained, under which contract it is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.hub import is_hub_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HYPER_PARAMETERS = (
    "optim", "learning_rate", "lr_schedule", "warmup_ratio", "weight_decay", "max_grad_norm", "epochs", "max_steps",
    "tokens_per_batch", "max_length", "terminal_weight", "seed",
)  # fmt: skip
VALIDATED = {
    "validation_loss": "loss (nats per token)",
    "validation_command_accuracy": "token accuracy, commands",
    "validation_terminal_accuracy": "token accuracy, terminals",
    "validation_too_early": "probability of ending too early",
    "validation_too_late": "probability of ending too late",
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
    base = Path(record["base"]["name"]).name
    head = _front_matter(record)
    sections = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in head.items()) + "---\n",
        f"# {name}\n",
        (
            f"A LoRA adapter of {base} that operates a POSIX shell: every reply is one command, the last one is `exit` "
            "(done) or `panic REASON` (blocked). It does not do tool calling; its prompt contains no task. Trained by "
            f"`sekft-train` {record['versions'].get('tiararodney.sekft', '')}.\n"
        ),
        "## Training data\n",
        _table(_data_rows(data), ("trajectories and tokens", "count")),
        "Only commands, terminals and their end-of-turn token are trained; what the shell prints never is.\n",
        "## Training\n",
        _table(
            [
                *((key, config[key]) for key in HYPER_PARAMETERS if config[key]),
                *((key, _short(value)) for key, value in record["lora"].items()),
                ("base loaded in", "NF4" if record["base"]["four_bit"] else record["base"]["dtype"]),
                ("steps", result["step"]),
                ("tokens seen, and trained", f"{result['tokens']}, {result['trained']}"),
                ("on", f"{record['processes']} x {record['device']}, {result['seconds']:.0f} s"),
            ],
            ("setting", "value"),
        ),
        "## Validation\n",
        _measured(record),
        "## Render contract\n",
        (
            "Prompts must be rendered with `chat_template.jinja` of this folder: it folds the system turn into the "
            "first user turn and merges turns of one role, as training did. `render.json` is the fingerprint:\n"
        ),
        _table([(key, f"`{contract[key]}`") for key in sorted(contract) if "sha256" in key], ("part", "SHA-256")),
        (
            f"Text of control tokens inside messages: {contract['control_tokens']}. Base weights: "
            f"`{record['base']['fingerprint']}`.\n"
        ),
        "## Use\n",
        (
            "    from peft import AutoPeftModelForCausalLM\n    from transformers import AutoTokenizer\n"
            f'    model = AutoPeftModelForCausalLM.from_pretrained("{name}")\n'
            f'    tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        ),
        "Give it a shell that you can afford to lose: it runs whatever it generates.\n",
    ]
    return "\n".join(sections)


def licence_of(folder: Path) -> str | None:
    """Return the licence that a base's own card names; None where it has none, or no card.

    Args:
        folder: The base's.
    """
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license: *(\S+) *$", head[1], re.MULTILINE) if head else None
    return found[1] if found else None


def _front_matter(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub reads; paths of this machine are left out, as is the licence of a base that tells none."""
    name, licence = record["base"]["name"], record["base"]["license"]
    config = record["config"]
    sets = [str(source) for source in (*config["hub"], *config["data"]) if is_hub_id(source)]
    head: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "text-generation"}
    head |= {"tags": ["lora", "sekft", "posix-shell"]}
    head |= {"base_model": name} if not Path(name).is_absolute() else {}
    return head | ({"license": licence} if licence else {}) | ({"datasets": sets} if sets else {})


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    left_out = sum(data["dropped"].values()), sum(data["refused"].values()), data["over_max_length"]
    return [
        ("read", data["read"]),
        ("kept", data["kept"]),
        ("dropped, refused, over the length", ", ".join(map(str, left_out))),
        ("training examples", data["training_examples"]),
        ("validation examples", data["validation_examples"]),
        ("tokens", data["training_tokens"]),
        ("tokens trained", data["trained_tokens"]),
    ]


def _measured(record: Mapping[str, Any]) -> str:
    at = record["result"]["best_step"]
    found = [entry for entry in record["curve"] if "validation_loss" in entry and entry["step"] == at]
    if not found:
        return "There was no validation split. `sekft-eval` plays it against its base in fresh worlds.\n"
    rows = [(name, f"{found[-1][key]:.4f}") for key, name in VALIDATED.items() if found[-1][key] is not None]
    return (
        _table(rows, (f"on held-out sessions, after step {at}", "value"))
        + "\nEvery turn follows the reference's turns here. How often it does the work by itself, `sekft-eval` tells.\n"
    )


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(rows: Sequence[tuple[str, Any]], head: tuple[str, str]) -> str:
    return "".join(f"| {left} | {right} |\n" for left, right in [head, ("---", "---"), *rows])
