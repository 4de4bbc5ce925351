"""The model card: what an adapter is, its data, how it was trained, under which contract it is served."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from tiararodney.sekft.hub import is_hub_id

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - Markdown
    source = files("tiararodney.sekft.sft").joinpath("card.md").read_text(encoding="utf-8")
    at = record["result"]["best_step"]
    found = [entry for entry in record["curve"] if "validation_loss" in entry and entry["step"] == at]
    head = "".join(f"{key}: {json.dumps(value)}\n" for key, value in _front_matter(record).items())
    return f"---\n{head}---\n\n" + environment.from_string(source).render(
        name=name,
        base=Path(record["base"]["name"]).name,
        record=record,
        data=record["data"],
        result=record["result"],
        contract=contract,
        hyper_parameters=HYPER_PARAMETERS,
        measured=found[-1] if found else None,
        validated=VALIDATED,
    )


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
    """What the hub reads; paths of this machine are left out, as is a licence that is not known."""
    name, licence = record["base"]["name"], record["base"]["license"]
    config = record["config"]
    sets = [str(source) for source in (*config["hub"], *config["data"]) if is_hub_id(source)]
    head: dict[str, Any] = {"library_name": "peft", "pipeline_tag": "text-generation"}
    head |= {"tags": ["lora", "sekft", "posix-shell"]}
    head |= {"base_model": name} if not Path(name).is_absolute() else {}
    return head | ({"license": licence} if licence else {}) | ({"datasets": sets} if sets else {})
