"""Which layers of a base LoRA goes on: those of the text model, by name or pattern."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.model.base import Base

ALL_LINEAR = "all-linear"
PATTERN = re.compile(r"[\\^$*+?()\[\]{}|]")  # what a list of names has none of


def read_targets(text: str) -> str | list[str]:
    """Read comma-separated module names into a list; return "all-linear", or a pattern over whole paths, as it is."""
    if text == ALL_LINEAR or PATTERN.search(text):
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def text_targets(model: Any, targets: str | list[str]) -> str | list[str]:  # transformers ships no types
    """Make names a pattern for layers of the text model, where that lies inside a model that sees or hears as well."""
    prefix = text_prefix(model)
    if not prefix or (isinstance(targets, str) and targets != ALL_LINEAR):
        return targets
    names = sorted(_linear(model.get_submodule(prefix))) if targets == ALL_LINEAR else targets
    return rf"{re.escape(prefix)}\.(?:.*\.)?(?:{'|'.join(re.escape(name) for name in names)})"


def text_prefix(model: Any) -> str:
    """The path of the text model in one that sees or hears as well ("model.language_model"); else an empty string."""
    if model.config.get_text_config(decoder=True) is model.config:
        return ""
    decoder = model.get_decoder()
    return next((path for path, module in model.named_modules() if module is decoder and path), "")


def check_targets(base: Base, targets: str | list[str], trained: Iterable[str], flag: str) -> None:
    """Hold the targets that `flag` asked for against what came of them on the base: the paths that are trained.

    Raises:
        UsageError: A name has no weight that is trained, or a weight lies outside of the text model.
    """
    trained = list(trained)
    names = targets if isinstance(targets, list) else [] if trained else [targets]
    if lost := [target for target in names if not any(f".{target}." in f".{path}" for path in trained)]:
        known = sorted(path for path in _linear(base.model) if not path.isdigit())
        found = f"found {', '.join(lost)}, of which no weight would be trained: LoRA goes on linear layers"
        raise UsageError(f"{flag}: {found}. Expected names among {known}.")
    prefix = text_prefix(base.model)
    if outside := [path for path in trained if prefix and not path.startswith((f"{prefix}.", "lm_head."))]:
        found = f"found {targets}, which reaches {outside[0].partition('.lora_')[0]}, and text never trains that"
        raise UsageError(f"{flag}: {found}. Expected layers of {prefix}.")


def _linear(model: nn.Module) -> set[str]:
    """The names of the linear layers, with adapters on them or without; bitsandbytes' are linear layers too."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {path.removesuffix(".base_layer").rpartition(".")[2] for path in linear if ".lora_" not in path}
