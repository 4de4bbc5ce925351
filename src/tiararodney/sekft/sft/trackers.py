"""Where else a run is told of: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tiararodney.sekft.sft.config import TrainConfig

    Log = Callable[[Mapping[str, float], int], None]

log = logging.getLogger(__name__)

MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}
PROJECT = "sekft"


def check_trackers(config: TrainConfig) -> None:
    """Refuse trackers that are not installed, before hours are spent.

    Args:
        config: Names them.

    Raises:
        UsageError: One is missing.
    """
    for name in config.report_to:
        try:
            importlib.import_module(MODULES[name])
        except ImportError as error:
            raise UsageError(
                f"--report-to {name}: needs the package {name} ({error}). Install it: pip install {name}"
            ) from None


def tensorboard_folder(out: Path) -> Path:
    """Where TensorBoard finds the run that writes `out`.

    Args:
        out: The run's `--out`.

    Returns:
        A folder beside it.
    """
    return out.with_name(out.name + ".tensorboard")


@contextmanager
def tracking(config: TrainConfig) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Tell the configured trackers of every record of the curve, for the length of a `with` block.

    Args:
        config: Names the trackers; it is told to them.

    Yields:
        Takes a record: `step`, and numbers. Those of a validation come under `validation/`, others under `train/`. A
        tracker that fails is warned of and left out from then on: the run is worth more than its picture.
    """
    with ExitStack() as stack:
        open_now = {name: stack.enter_context(OPENERS[name](config)) for name in config.report_to}

        def tell(entry: Mapping[str, Any]) -> None:
            numbers = {_place(key): value for key, value in entry.items() if key != "step" and value is not None}
            for name, tell_one in list(open_now.items()):
                try:
                    tell_one(numbers, int(entry["step"]))
                except Exception as error:  # noqa: BLE001 - whatever a tracker's own code and network raise
                    log.warning("--report-to %s failed (%s) and is left out from here on", name, error)
                    del open_now[name]

        yield tell


def _place(key: str) -> str:
    return f"validation/{key.removeprefix('validation_')}" if key.startswith("validation_") else f"train/{key}"


@contextmanager
def _tensorboard(config: TrainConfig) -> Iterator[Log]:
    module: Any = importlib.import_module(MODULES["tensorboard"])
    with module.SummaryWriter(str(tensorboard_folder(config.out))) as writer:

        def tell(numbers: Mapping[str, float], step: int) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        yield tell


@contextmanager
def _hosted(config: TrainConfig, name: str) -> Iterator[Log]:
    """Weights & Biases, and Trackio, which has the same three calls."""
    module: Any = importlib.import_module(MODULES[name])
    project = os.environ.get(f"{name.upper()}_PROJECT", PROJECT)
    run = module.init(project=project, name=config.out.name, config=config.to_json())
    try:
        yield lambda numbers, step: run.log(dict(numbers), step=step)
    finally:
        run.finish()


OPENERS: dict[str, Callable[[TrainConfig], AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "wandb": lambda config: _hosted(config, "wandb"),
    "trackio": lambda config: _hosted(config, "trackio"),
}
