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
    """Read a list of module names, or a pattern, as PEFT tells them apart.

    Args:
        text: "all-linear", comma-separated names, or a regular expression over whole module paths.

    Returns:
        Names in a list; "all-linear" or a pattern as it is.
    """
    if text == ALL_LINEAR or PATTERN.search(text):
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def text_targets(model: Any, targets: str | list[str]) -> str | list[str]:  # transformers ships no types
    """Keep targets to the text model where that lies inside a model that sees or hears as well.

    Args:
        model: The base's model.
        targets: As `read_targets` gives them.

    Returns:
        The same for a model of text alone, and a pattern as it is; else a pattern for the layers of the text model.
    """
    prefix = text_prefix(model)
    if not prefix or (isinstance(targets, str) and targets != ALL_LINEAR):
        return targets
    names: Iterable[str] = targets
    if targets == ALL_LINEAR:
        inside = model.get_submodule(prefix).named_modules()
        names = sorted({path.rpartition(".")[2] for path, module in inside if _is_linear(module)})
    return rf"{re.escape(prefix)}\.(?:.*\.)?(?:{'|'.join(re.escape(name) for name in names)})"


def text_prefix(model: Any) -> str:
    """The path of the text model inside a model that sees or hears as well.

    Args:
        model: A model of transformers.

    Returns:
        Such as "model.language_model"; empty for a model of text alone.
    """
    if model.config.get_text_config(decoder=True) is model.config:
        return ""
    decoder = model.get_decoder()
    return next((path for path, module in model.named_modules() if module is decoder and path), "")


def check_targets(base: Base, name: str, targets: str | list[str], trained: Iterable[str], flag: str) -> None:
    """Hold what was asked for against the LoRA weights that came of it.

    Args:
        base: With the adapter on it.
        name: The adapter's name.
        targets: What was asked for.
        trained: The paths of the weights that are trained.
        flag: What named the targets, for messages.

    Raises:
        UsageError: A name has no weight that is trained, or a weight lies outside of the text model.
    """
    trained = list(trained)
    linear = sorted({path.rpartition(".")[2] for path, module in base.model.named_modules() if _is_linear(module)})
    known = [path for path in linear if not path.isdigit() and path not in {"default", name, "base_layer"}]
    if not trained:
        raise UsageError(f"{flag}: found {targets}, which reaches no linear layer. Expected some of {known}.")
    if isinstance(targets, list):
        lost = [target for target in targets if not any(f".{target}." in f".{path}" for path in trained)]
        if lost:
            raise UsageError(
                f"{flag}: found {', '.join(lost)}, of which no weight would be trained: LoRA goes on linear layers. "
                f"Expected names among {known}."
            )
    prefix = text_prefix(base.model)
    head = "lm_head."
    outside = [path for path in trained if prefix and not path.startswith((f"{prefix}.", head))]
    if outside:
        raise UsageError(
            f"{flag}: found {targets}, which reaches {outside[0].partition('.lora_')[0]}, and text never trains that. "
            f"Expected layers of {prefix}."
        )


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):  # bitsandbytes' layers are linear layers too
        return True
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer) and isinstance(module.get_base_layer(), nn.Linear)
