"""Write what a run made: a folder that plain peft loads, complete or not there at all; and upload it."""

from __future__ import annotations

import json
import logging
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx import HTTPError
from huggingface_hub import HfApi, metadata_load
from jinja2 import Environment, StrictUndefined
from safetensors.torch import save_file
from yaml import YAMLError

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.folders import new_folder
from tiararodney.sekft.hub import is_hub_id
from tiararodney.sekft.model.adapters import RECORD, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from tiararodney.sekft.render import Fingerprint

log = logging.getLogger(__name__)

PANELS = {  # of the curve: a key of its records, and the label with its unit
    "loss": "loss (nats a token)",
    "command_accuracy": "commands predicted",
    "terminal_accuracy": "terminals predicted",
    "success": "success in worlds",
    "too_early": "ends too early",
    "too_late": "ends too late",
    "learning_rate": "learning rate",
}


def write_adapter(
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    lora: Any,
    record: Mapping[str, Any],
    contract: Callable[[Path], Fingerprint],
    *,
    replace: bool,
) -> None:
    """Write the adapter's folder in one move.

    Args:
        out: The folder; it appears complete or not at all.
        tensors: The weights, by the names that peft's files have.
        lora: peft's configuration of the adapter.
        record: What was done, for `training.json` and the card; its `curve` goes to `curve.jsonl`, a line each, and is
            drawn.
        contract: Writes tokenizer, chat template and `render.json` into a folder.
        replace: Put it in place of a folder that is there.

    Raises:
        RunFailed: The disk refuses; what was written so far stays, and is named.
    """
    with new_folder(out, replace=replace, keep=True) as folder:
        save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
        lora.inference_mode = True
        lora.save_pretrained(folder)
        rendered = contract(folder).to_json()
        kept, curve = {key: value for key, value in record.items() if key != "curve"}, record["curve"]
        (folder / RECORD).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "curve.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in curve), encoding="utf-8")
        for name, write in (
            ("README.md", lambda file: file.write_text(model_card(out.name, record, rendered), encoding="utf-8")),
            ("curve.png", lambda file: draw_curve(curve, out.name, file)),
        ):
            try:
                write(folder / name)
            except ModuleNotFoundError as error:
                log.warning("%s is not written: it needs %s. Install it: pip install %s", name, error.name, error.name)
            except Exception as error:  # noqa: BLE001 - nothing about a picture may cost a training
                log.warning("%s is not written: %s: %s", name, type(error).__name__, error)


def model_card(name: str, record: Mapping[str, Any], contract: Mapping[str, Any]) -> str:
    """Write the card of an adapter.

    Args:
        name: The adapter's.
        record: What is in `training.json`, with its curve.
        contract: What is in `render.json`.

    Returns:
        Markdown with the hub's front matter; a licence that is not known is left out, and so are paths of this machine:
        a base that has no id on the hub goes by its folder's name.
    """
    base, config, at = record["base"], record["config"], record["result"]["best_step"]
    head = {
        "base_model": None if Path(base["name"]).is_absolute() else base["name"],
        "license": base["license"],
        "datasets": [str(source) for source in (*config["hub"], *config["data"]) if is_hub_id(source)],
    }
    found = [entry for entry in record["curve"] if "validation_loss" in entry and entry["step"] == at]
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701 - Markdown
    card = environment.from_string(files("tiararodney.sekft.sft").joinpath("card.md").read_text(encoding="utf-8"))
    how = {"head": head, "name": name, "base": Path(base["name"]).name, "measured": found[-1] if found else None}
    return card.render(record=record, contract=contract, **how)


def licence_of(folder: Path) -> str | None:
    """Return the licence that the card in a base's folder names; None where it has none, or no card."""
    try:
        found = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, YAMLError):
        return None
    return found if isinstance(found, str) else None


def draw_curve(curve: Sequence[Mapping[str, Any]], title: str, file: Path) -> None:
    """Draw the records of `curve.jsonl` as a PNG: a panel for each of `PANELS` that was measured.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name in PANELS:
        for key, label in ((name, "training"), (f"validation_{name}", "validation")):
            if points := [(entry["step"], entry[key]) for entry in curve if key in entry]:
                panels.setdefault(name, {})[label] = points
    figure = Figure(figsize=(9, 1.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, panels.items(), strict=True):
        for label, points in lines.items():
            marker = "o" if label == "validation" else None
            axis.plot(*zip(*points, strict=True), label=label, marker=marker, markersize=3, linewidth=1.2)
        axis.set_ylabel(PANELS[name])
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize="small", frameon=False)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    axes[-1].locator_params(axis="x", integer=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def open_repository(name: str, *, public: bool) -> None:
    """Make the repository that an adapter goes to (such as ``me/adapter``), unless it is there.

    Raises:
        UsageError: It is no repository's name, nobody is logged in, or the hub refuses or does not answer.
    """
    try:
        HfApi().create_repo(name, token=True, private=not public, exist_ok=True)
    except (HTTPError, OSError, ValueError) as error:
        raise UsageError(
            f"--push-to-hub {name}: {error}. Expected a name such as me/adapter, and a login: run `hf auth login`, or "
            "set HF_TOKEN."
        ) from None


def push(folder: Path, name: str) -> None:
    """Upload an adapter's folder to a repository that `open_repository` has made.

    Raises:
        RunFailed: The hub refuses; the folder is complete all the same.
    """
    log.info("uploading %s to %s", folder, name)
    try:
        done = HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="Adapter trained by sekft-train")
    except (HTTPError, OSError) as error:
        raise RunFailed(
            f"--push-to-hub {name}: the hub refuses: {error}. The adapter is complete in {folder}; "
            f"upload it with `hf upload {name} {folder}`."
        ) from error
    log.info("uploaded: %s", done)
