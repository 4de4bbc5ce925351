"""Load a base model, plain or in NF4."""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.cache import find_copy, keep_copy
from tiararodney.sekft.model.fingerprint import base_fingerprint, weight_files
from tiararodney.sekft.model.loading import is_four_bit, load_model, quantised_with
from tiararodney.sekft.model.lock import FairLock
from tiararodney.sekft.model.memory import free_memory
from tiararodney.sekft.model.precision import choose_dtype
from tiararodney.sekft.render import Message, Tokenizer
from tiararodney.sekft.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

# The dequantised weights stay within this share of the memory that is free, so that training has the rest.
ROOM = 0.5
PACKED = 4  # at most: weights in 4 bits, and parts that were not quantised
EXPECTED = "a folder with config.json, weights and tokenizer.json"


@dataclass
class Adapters:
    """What hangs on a base at the moment. The one part of a `Base` that changes.

    Attributes:
        handle: The `peft.PeftModel` around the base's model, or None while no adapter is attached.
        folders: Adapter name to the folder it was read from.
        active: The adapter that is in use, or None for the base alone.
        switched: The same in a tuple once the layers' own switches stand so; None where they have to be set.
        versions: Adapter name to a number that no earlier adapter of that name had.
    """

    handle: Any = None
    folders: dict[str, Path] = field(default_factory=dict)
    active: str | None = None
    switched: tuple[str | None] | None = None
    versions: dict[str, int] = field(default_factory=dict)
    _counted: int = 0

    def count(self, name: str) -> None:
        """Give an adapter that has just been put on the base its version."""
        self._counted += 1
        self.versions[name] = self._counted

    def version(self, name: str | None) -> int | None:
        """The version of an adapter, 0 for the base alone, None where no adapter of that name is on the base."""
        return 0 if name is None else self.versions.get(name)


@dataclass(frozen=True)
class Base:
    """A loaded base model. Its weights never change.

    Attributes:
        model: The causal language model (transformers), frozen, in eval mode.
        tokenizer: The tokenizer of the same folder, obeying `render`'s protocol.
        path: The folder it was loaded from.
        four_bit: Whether the linear layers hold NF4 weights.
        device: "cpu", "cuda:0", ...
        dtype: The compute type.
        dtype_reason: Why it is this one; see `model.precision`.
        fingerprint: What the weights are, wherever they lie; see `base_fingerprint`.
        dequantised: Whether the NF4 weights are kept dequantised (the same function, faster, more memory).
        adapters: What is attached.
        lock: Held by whoever runs or changes the model.
    """

    model: Any
    tokenizer: Any
    path: Path
    four_bit: bool
    device: str
    dtype: torch.dtype
    fingerprint: str
    dtype_reason: str = "--dtype"
    dequantised: bool = False
    adapters: Adapters = field(default_factory=Adapters)
    lock: FairLock = field(default_factory=FairLock)

    def settings(self) -> dict[str, Any]:
        """The flags that this base settles for a command that is run on it, by the names of their settings."""
        return {
            "base": self.path,
            "load_4bit": self.four_bit,
            "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def load_base(
    path: str | os.PathLike[str],
    four_bit: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    *,
    dequantise: bool | None = None,
    cache: bool = True,
) -> Base:
    """Load a base model and its tokenizer.

    Args:
        path: A model folder in the Hugging Face layout, or the id of a model that lies in the local hub cache.
        four_bit: Quantise the linear layers to NF4.
        device: "auto" (CUDA if there is a device, else the CPU) or a torch device.
        dtype: The compute type, "auto" or by name; see `model.precision.choose_dtype`.
        dequantise: Keep NF4 weights dequantised in memory; None does so where half of the free memory suffices.
        cache: Keep the NF4 weights on disk after the first load, and load them from there; see `model.cache`.

    Returns:
        The base, frozen and in eval mode.

    Raises:
        UsageError: No model there, no such device, or bitsandbytes is missing.
    """
    folder = find_folder(path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    four_bit = four_bit or is_four_bit(config)
    if four_bit:
        fourbit.require_bitsandbytes()
    device = find_device(device)
    precision = choose_dtype(dtype, device)
    compute = precision.dtype
    keep_dequantised = four_bit and (_has_room(folder, device, compute) if dequantise is None else dequantise)
    model = _four_bit(folder, device, compute, cache=cache) if four_bit else load_model(folder, device, compute)
    if keep_dequantised:
        fourbit.dequantise(model, compute)
    elif four_bit:
        fourbit.guard_against_repacking(model)
    model.requires_grad_(requires_grad=False)
    model.eval()
    tokenizer = load_tokenizer(folder)
    check_ids(model, tokenizer, folder)
    nf4 = f"NF4{' dequantised' if keep_dequantised else ''}, " * four_bit
    log.info("base %s on %s, %sdtype %s: %s", folder, device, nf4, precision.name, precision.reason)
    return Base(
        model=model,
        tokenizer=tokenizer,
        path=folder,
        four_bit=four_bit,
        device=device,
        dtype=compute,
        dtype_reason=precision.reason,
        fingerprint=base_fingerprint(folder, tokenizer),
        dequantised=keep_dequantised,
    )


def find_folder(path: str | os.PathLike[str]) -> Path:
    """Find the model folder that `path` names, and check that a model lies there.

    Args:
        path: A folder, or a hub id; what is not in the hub's cache is downloaded.

    Returns:
        The folder.

    Raises:
        UsageError: It is no model folder.
    """
    folder = hub.find(path, hub.MODEL, "--base")
    config = folder / "config.json"
    if not config.is_file():
        kind = (
            "it holds an adapter, not a base model" if (folder / "adapter_config.json").is_file() else "no config.json"
        )
        raise UsageError(f"--base {path}: not a model folder: {kind}. Expected {EXPECTED}.")
    try:
        model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise UsageError(
            f"{config}: not a JSON object ({error}). Expected a transformers model configuration."
        ) from error
    if not model_type:
        raise UsageError(f"{config}: field model_type is missing. Expected a transformers model configuration.")
    if not weight_files(folder):
        raise UsageError(f"--base {path}: no weights found. Expected model.safetensors or pytorch_model.bin.")
    return folder


def find_device(device: str) -> str:
    """Find the device that a name stands for.

    Args:
        device: "auto" (CUDA if there is a device, else the CPU) or a torch device.

    Returns:
        A torch device.

    Raises:
        UsageError: There is no such device.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {device}: {str(error).splitlines()[0]}. Expected auto, cpu or cuda.") from error
    return device


def _has_room(folder: Path, device: str, dtype: torch.dtype) -> bool:
    """Whether the dequantised weights leave enough memory; files hold 16 bits a weight, or 4 if quantised already."""
    weights = sum(file.stat().st_size for file in weight_files(folder)) * (PACKED if _is_quantised(folder) else 1)
    return bool(weights * dtype.itemsize / 2 <= ROOM * free_memory(device))


def check_ids(model: Any, tokenizer: Tokenizer, folder: Path) -> None:  # transformers ships no types
    """Hold the tokenizer's ids against the embedding.

    An added token beyond it is no fault as long as nothing writes it (a text model may share its tokenizer with one
    that sees): those that the chat template writes are looked at.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        folder: The model's, for the message.

    Raises:
        UsageError: A token of the vocabulary, or of the template, has no embedding.
    """
    size = model.get_input_embeddings().weight.shape[0]
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    turns = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "$ ")]
    written = tokenizer.encode(tokenizer.render_text(turns, add_generation_prompt=True))
    highest = max([*vocabulary.values(), *written], default=0)
    if highest >= size:
        raise UsageError(
            f"--base {folder}: its tokenizer has token id {highest}, but the model has embeddings for {size} ids only. "
            "Take both from the same model."
        )


def _is_quantised(folder: Path) -> bool:
    return quantised_with(json.loads((folder / "config.json").read_text(encoding="utf-8"))) is not None


def _four_bit(folder: Path, device: str, dtype: torch.dtype, *, cache: bool) -> Any:  # transformers ships no types
    """Load a base in NF4: from the copy on disk, or quantising it, which leaves a copy there."""
    if not cache or _is_quantised(folder):
        return load_model(folder, device, dtype, four_bit=True)
    if copy := find_copy(folder, device, str(dtype)):
        try:
            model = load_model(copy, device, dtype, four_bit=True)
        except (UsageError, OSError) as error:
            log.warning("the NF4 copy %s cannot be loaded (%s): quantising again", copy, error)
            return load_model(folder, device, dtype, four_bit=True)
        model.config._name_or_path = model.name_or_path = str(folder)  # noqa: SLF001 - the only name it has
        return model
    model = load_model(folder, device, dtype, four_bit=True)
    keep_copy(model, folder, device, str(dtype))
    return model
