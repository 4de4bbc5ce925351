"""Attach LoRA adapters to a base and take them off again, leaving the base bit for bit as it was."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.model.base import Base
from tiararodney.sekft.model.fingerprint import first_line, probe_ids

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RECORD = "training.json"
BEYOND_LORA = ("modules_to_save", "bias", "trainable_token_indices", "layer_replication")
UNMIXABLE = ("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "lora_bias")
_versions = count(1)


def attach_adapter(base: Base, path: str | Path, name: str) -> None:
    """Read an adapter and attach it, in the base's compute type, without switching to it.

    Args:
        base: The base it was trained on.
        path: An adapter folder as `sekft-train --out` or `peft` writes it.
        name: What to call it from now on.

    Raises:
        UsageError: No adapter there, the adapter of another base, not a LoRA, or the name is taken.
    """
    folder = Path(path)
    if name in base.adapters.folders:
        raise UsageError(f"adapter name {name!r} is taken by {base.adapters.folders[name]}. Choose another name.")
    if not name or "." in name:
        raise UsageError(f"adapter name {name!r}: expected a name without dots.")  # a key of torch's ModuleDict
    config = read_config(folder)
    check_record(folder, base.fingerprint, base.path)
    with base.lock:
        add_adapter(base, config, name, empty=True)
        try:
            load_weights(base, name, folder)
        except BaseException:
            detach_adapter(base, name)
            raise
        base.adapters.folders[name] = folder


def load_weights(base: Base, name: str, folder: Path, flag: str = "--adapter") -> None:
    """Set the weights of an attached adapter's layers from a folder, which `flag` named.

    Layers without weights get them in the base's compute type, in which training multiplies them too.

    Raises:
        UsageError: A tensor has no place there, or a place no tensor: the adapter of another base.
    """
    try:
        tensors = load_file(folder / WEIGHTS, device=base.device)
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise UsageError(
            f"{flag} {folder / WEIGHTS}: found a file that cannot be read ({first_line(error)}). Copy it again."
        ) from error
    places = _places(base, name)
    shapes = {key: tensor.shape for key, (_, tensor) in places.items()}
    if odd := sorted({*shapes.items()} ^ {(key, tensor.shape) for key, tensor in tensors.items()}):
        found = f"{len({key for key, _ in odd})} tensors have no counterpart of their shape, the first is {odd[0][0]}"
        raise _another_base(base.path, folder, found, flag)
    for key, (path, old) in places.items():
        module, _, leaf = path.rpartition(".")
        fresh = tensors[key].to(base.dtype if old.is_meta else old.dtype)
        setattr(base.adapters.handle.get_submodule(module), leaf, torch.nn.Parameter(fresh, requires_grad=False))


def tensor_names(base: Base, name: str) -> dict[str, Any]:
    """The weights of an adapter that hangs on the base, under the names that peft's files have."""
    return {key: tensor for key, (_, tensor) in _places(base, name).items()}


def _places(base: Base, name: str) -> dict[str, tuple[str, torch.nn.Parameter]]:
    return {
        path.replace(f".{name}.", ".").replace("lora_magnitude_vector.weight", "lora_magnitude_vector"): (path, tensor)
        for path, tensor in base.adapters.handle.named_parameters()
        if f".{name}." in path
    }


def add_adapter(base: Base, config: Any, name: str, *, empty: bool = False) -> None:  # peft ships no types
    """Put the LoRA layers of a `peft.LoraConfig` on the base, switched off and not trainable.

    `empty` makes layers without weights, for a file's to be assigned.

    Raises:
        UsageError: The config's target modules do not fit the base.
    """
    from peft import PeftModel

    state = base.adapters
    how = {"low_cpu_mem_usage": empty, "autocast_adapter_dtype": not empty}
    try:
        if state.handle is None:
            state.handle = PeftModel(base.model, config, adapter_name=name, **how)
        else:
            state.handle.add_adapter(name, config, **how)
    except Exception as error:  # whatever peft raises is about this configuration
        if state.handle is not None and name in state.handle.peft_config:
            detach_adapter(base, name)
        raise UsageError(f"adapter {name}: peft cannot put it on {base.path}: {first_line(error)}") from error
    state.handle.requires_grad_(requires_grad=False)
    state.handle.eval()
    state.versions[name] = next(_versions)
    switch_adapter(base, state.active, always=True)


def detach_adapter(base: Base, name: str) -> None:
    """Take an adapter off. With the last one gone, the base's own layers are back in place.

    Raises:
        UsageError: No adapter of that name is attached.
    """
    state = base.adapters
    with base.lock:
        _check_attached(base, name)
        state.folders.pop(name, None)
        state.versions.pop(name, None)
        if state.active == name:
            state.active = None
        if len(state.handle.peft_config) > 1:
            state.handle.set_adapter(next(other for other in state.handle.peft_config if other != name))
            state.handle.delete_adapter(name)
            switch_adapter(base, state.active, always=True)
            return
        state.handle.unload()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
        base.model.requires_grad_(requires_grad=False)
        state.handle = None


def _check_attached(base: Base, name: str | None) -> None:
    state = base.adapters
    if name is not None and (state.handle is None or name not in state.handle.peft_config):
        raise UsageError(f"no adapter {name!r} is attached. Attached: {', '.join(state.folders) or 'none'}.")


@contextmanager
def use_adapter(base: Base, name: str | None) -> Iterator[Base]:
    """Use an attached adapter, or with None the base alone, for the length of a `with` block; yield the base.

    Raises:
        UsageError: No adapter of that name is attached.
    """
    _check_attached(base, name)
    before = base.adapters.active
    switch_adapter(base, name)
    try:
        yield base
    finally:
        switch_adapter(base, before)


def switch_adapter(base: Base, name: str | None, *, always: bool = False) -> None:
    """Activate an adapter, or the base alone where `name` is None or no longer attached, by the layers' own switches.

    `always` sets them even where this adapter is in use, as layers have come or gone.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    name = None if base.adapters.version(name) is None else name
    if base.adapters.active == name and not always:
        return
    base.adapters.active = name
    for module in base.model.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(enabled=name is not None)
            if name is not None:
                module.set_adapter(name, inference_mode=True)


def can_mix(base: Base, name: str) -> bool:
    """Whether PEFT can serve rows of an adapter and of others in one batch: plain LoRA, but not DoRA and the like."""
    config = base.adapters.handle.peft_config.get(name) if base.adapters.handle is not None else None
    return config is not None and not any(getattr(config, kind, None) for kind in UNMIXABLE)


def read_config(folder: Path, flag: str = "--adapter") -> Any:  # peft ships no types
    """Read a folder's `peft.LoraConfig`; `flag` is what named it, for messages.

    Raises:
        UsageError: There is no adapter, or one that is not LoRA alone.
    """
    missing = [f"{file} is missing" for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        found = missing[0] if folder.is_dir() else "no such folder"
        raise UsageError(f"{flag} {folder}: {found}. Expected a folder that sekft-train --out wrote.")
    from peft import LoraConfig, PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # whatever peft makes of a broken file
        raise UsageError(f"{folder / CONFIG}: not an adapter configuration of peft ({first_line(error)}).") from error
    if not isinstance(config, LoraConfig):
        raise UsageError(f"{folder / CONFIG}: field peft_type is {config.peft_type}. Expected LORA.")
    if beyond := {name: value for name in BEYOND_LORA if (value := getattr(config, name, None)) not in (None, "none")}:
        found = ", ".join(f"{name}: {value}" for name, value in beyond.items())
        raise UsageError(f"{flag} {folder}: it trains more than LoRA layers ({found}). Expected one without these.")
    return config


def changes_logits(base: Base, name: str) -> bool:
    """Tell whether the base computes other logits with an attached adapter: not where that was never trained."""
    size = base.model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([probe_ids(size, 16)], device=base.device)
    found = []
    for which in (None, name):
        with base.lock, use_adapter(base, which), torch.no_grad():
            found.append(base.model(input_ids=ids, use_cache=False).logits)
    return not torch.equal(*found)


def check_record(folder: Path, fingerprint: str, path: Path, flag: str = "--adapter") -> None:
    """Compare the base an adapter was trained on, where its folder records it, with the one at hand, in `path`.

    Raises:
        UsageError: The adapter was trained on another base, or its record cannot be read.
    """
    record = folder / RECORD
    if not record.is_file():
        return  # written by plain peft: shapes are all there is to compare
    try:
        trained_on = json.loads(record.read_text(encoding="utf-8"))["base"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{record}: cannot read base.fingerprint ({error!r}). Train the adapter again.") from error
    if trained_on != fingerprint:
        raise _another_base(path, folder, f"trained on {trained_on[:19]}..., this base is {fingerprint[:19]}...", flag)


def _another_base(path: Path, folder: Path, found: str, flag: str) -> UsageError:
    return UsageError(
        f"{flag} {folder}: the adapter of another base: {found}.\n"
        f"The base at hand is {path}. Pass the base that the adapter was trained on."
    )
