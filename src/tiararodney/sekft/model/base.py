"""Load a base model, plain or in NF4."""

import json
import logging
import os
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.cache import load_four_bit
from tiararodney.sekft.model.fingerprint import base_fingerprint, weight_files
from tiararodney.sekft.model.loading import FOUR_BIT, load_model, quantised_with
from tiararodney.sekft.model.memory import free_memory
from tiararodney.sekft.model.precision import choose_dtype
from tiararodney.sekft.render import Message, Tokenizer
from tiararodney.sekft.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

ROOM = 0.5  # share of the free memory that dequantised weights may take


class FairLock:
    """A re-entrant lock that a thread which takes it again and again cannot keep from others.

    Python's own locks go to whoever is fastest, which is the thread that has just released one.
    """

    def __init__(self) -> None:
        self._door, self._room = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        if self._owner != threading.get_ident():
            with self._door:  # who waits for the room holds the door shut for those that come later
                self._room.acquire()
            self._owner = threading.get_ident()
        self._depth += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._room.release()


@dataclass
class Adapters:
    """What hangs on a base at the moment. The one part of a `Base` that changes."""

    handle: Any = None  # the `peft.PeftModel` around the base's model, while there is an adapter
    folders: dict[str, Path] = field(default_factory=dict)  # where each adapter was read from
    active: str | None = None  # the adapter that is in use; None is the base alone
    versions: dict[str, int] = field(default_factory=dict)  # numbers that no earlier adapter had

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
    four_bit = four_bit or quantised_with(folder) == FOUR_BIT
    if four_bit:
        fourbit.require_bitsandbytes()
    device = find_device(device)
    precision = choose_dtype(dtype, device)
    compute = precision.dtype
    load = load_four_bit if four_bit and cache else partial(load_model, four_bit=four_bit)
    model = load(folder, device, compute)
    if four_bit and dequantise is None:
        dequantise = fourbit.dequantised_bytes(model, compute) <= ROOM * free_memory(device)
    dequantised = four_bit and bool(dequantise)
    if dequantised:
        fourbit.dequantise(model, compute)
    model.requires_grad_(requires_grad=False).eval()
    tokenizer = load_tokenizer(folder)
    _check_ids(model, tokenizer, folder)
    nf4 = f"NF4{' dequantised' if dequantised else ''}, " * four_bit
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
        dequantised=dequantised,
    )


def find_folder(path: str | os.PathLike[str]) -> Path:
    """Find the model folder that `path` names: a folder, or a hub id, which is downloaded if it is not in the cache.

    Raises:
        UsageError: It is no model folder.
    """
    folder = hub.find(path, hub.MODEL, "--base")
    config = folder / "config.json"
    if not config.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        found = "it holds an adapter, not a base model" if adapter else "no config.json"
        raise UsageError(
            f"--base {path}: not a model folder: {found}. Expected config.json, weights and tokenizer.json."
        )
    try:
        json.loads(config.read_text(encoding="utf-8"))["model_type"]
    except (ValueError, LookupError, TypeError) as error:
        found = f"cannot read field model_type ({error!r})"
        raise UsageError(f"{config}: {found}. Expected a transformers configuration.") from error
    if not weight_files(folder):
        raise UsageError(f"--base {path}: no weights found. Expected model.safetensors or pytorch_model.bin.")
    return folder


def find_device(device: str) -> str:
    """Find the torch device that a name stands for; "auto" is CUDA if there is a device, else the CPU.

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


def _check_ids(model: Any, tokenizer: Tokenizer, folder: Path) -> None:  # transformers ships no types
    """Refuse a tokenizer with an id beyond the embedding, in its vocabulary or in what its template writes."""
    size = model.get_input_embeddings().weight.shape[0]
    # Of added tokens only what is written counts: a text model may share its tokenizer with one that sees.
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    turns = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "$ ")]
    written = tokenizer.encode(tokenizer.render_text(turns, add_generation_prompt=True))
    highest = max([*vocabulary.values(), *written], default=0)
    if highest >= size:
        raise UsageError(
            f"--base {folder}: its tokenizer has token id {highest}, but the model has embeddings for {size} ids only. "
            "Take both from the same model."
        )
