"""Checkpoints beside `--out`: all that a run needs to go on as if it had never been cut off."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.folders import cannot_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "state.safetensors"


def checkpoint_folder(out: Path) -> Path:
    """Where the checkpoint of the run that writes `out` lies.

    Args:
        out: The run's `--out`.

    Returns:
        A folder beside it.
    """
    return out.with_name(out.name + ".checkpoint")


def save_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    progress: Mapping[str, Any],
) -> None:
    """Write a checkpoint in place of the one before, in one move.

    Args:
        folder: Where it lies.
        parameters: The trained weights by name.
        best: Copies of the weights that validated best, by name; empty where nothing was validated.
        optimizer: Over `parameters`.
        progress: What else tells where the run is; JSON values.

    Raises:
        RunFailed: The disk refuses; the checkpoint before is as it was.
    """
    tensors = {f"weight/{name}": tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}
    tensors |= {f"best/{name}": tensor.detach().cpu().contiguous() for name, tensor in best.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    # One file that is renamed over the last one: there is no moment without a checkpoint.
    fresh = folder / (FILE + ".new")
    try:
        folder.mkdir(exist_ok=True)
        save_file(tensors, fresh, metadata={"progress": json.dumps(progress)})
        with fresh.open("rb") as stream:
            os.fsync(stream.fileno())
        fresh.replace(folder / FILE)
    except (OSError, SafetensorError) as error:
        fresh.unlink(missing_ok=True)
        raise cannot_write(folder, error) from error


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    best: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    same: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Put a run where its checkpoint left it.

    Args:
        folder: Where the checkpoint lies.
        parameters: The trained weights by name; set in place.
        best: Filled with the weights that validated best so far.
        optimizer: Over these weights; its state is set.
        same: What must be as it was when the checkpoint was written.

    Returns:
        The progress that was saved, or None where there is no checkpoint.

    Raises:
        UsageError: The checkpoint is of another run.
    """
    if not (folder / FILE).is_file():
        return None
    with safe_open(folder / FILE, framework="pt") as file:
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
        for key, value in same.items():
            was = progress["same"].get(key)
            if was != value:
                raise UsageError(
                    f"--resume: {folder} is of another run: {key} was {was!r}, here it is {value!r}. "
                    "Give the same flags and data, or --overwrite to begin anew."
                )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
                state = {}
                for key in file.keys():  # noqa: SIM118 - no mapping
                    kind, _, owner = key.partition("/")
                    if owner != name or kind == "weight":
                        continue
                    tensor = file.get_tensor(key).to(parameter.device)
                    if kind == "best":
                        best[name] = tensor
                    else:
                        state[kind] = tensor
                if state:
                    optimizer.state[parameter] = state
    return progress


def drop_checkpoint(folder: Path) -> None:
    """Remove a checkpoint that is not needed any more.

    Args:
        folder: Where it lies, or does not.
    """
    shutil.rmtree(folder, ignore_errors=True)
