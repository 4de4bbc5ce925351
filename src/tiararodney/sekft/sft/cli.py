"""The command ``sekft-train``."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

from tiararodney.sekft import hub
from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.flags import Common
from tiararodney.sekft.residents import Remote, run_there
from tiararodney.sekft.sft.config import BehaviourFlags, InspectConfig, read, train_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.sekft.model import Base
    from tiararodney.sekft.settings import Settings
    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.config import TrainConfig

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or inspect; the adapter's folder goes to stdout.

    Args:
        argv: The arguments, the program's own where None.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.
    """

    def work() -> int:
        given = list(sys.argv[1:] if argv is None else argv)
        settings = read(given)
        configure_logs(settings.of(Common).verbosity)
        if (remote := settings.of(Remote)).resident is not None:
            return run_there("train", given, remote)
        run(given, settings=settings)
        return 0

    return run_cli(work, "sekft-train")


def run(
    argv: Sequence[str],
    base: Base | None = None,
    prog: str = "sekft-train",
    should_stop: Callable[[], bool] | None = None,
    make_judge: Callable[[TrainConfig, BehaviourFlags], Judge] | None = None,
    settings: Settings | None = None,
) -> TrainConfig | None:
    """Train or inspect, and print the adapter's folder.

    Args:
        argv: The flags of sekft-train.
        base: A base that is loaded already, which settles --base, --load-4bit, --device and --dtype.
        prog: What the command is called in messages.
        should_stop: Asked between micro-batches; True ends the run as Ctrl-C does.
        make_judge: Makes what plays the adapter in training in worlds, where --eval-scenarios asks for it.
        settings: What the flags say, where they were read already: a pipe named by --config can be read once only.

    Returns:
        The configuration of the run that was done; None after --inspect.

    Raises:
        RunFailed: With --inspect, not one session can be trained on, or the endpoint differs.
    """
    settings = settings or read(argv, prog, base.settings() if base is not None else None)
    config, behaviour = train_config(settings), settings.of(BehaviourFlags)
    if config is None:
        from tiararodney.sekft.sft.inspection.inspect import run as inspect

        if inspect(settings.of(InspectConfig)):
            raise RunFailed("--inspect: every session is refused, or the endpoint differs; the reasons stand above.")
        return None
    judge = None
    if behaviour.eval_scenarios is not None:
        if make_judge is None:
            raise UsageError("--eval-scenarios plays on a resident's base. Give --resident, or leave it out.")
        judge = make_judge(config, behaviour)
    _check_paths(config, base)
    if base is None:
        log.info("%s %s: loading torch", prog, metadata.version("tiararodney.sekft"))
    with naming_the_extra("training (not --inspect)"):
        from tiararodney.sekft.model.base import find_device
        from tiararodney.sekft.sft.train import train
    if base is None:
        find_device(config.device)
    if config.init_adapter is not None:
        config = replace(config, init_adapter=hub.find(config.init_adapter, hub.ADAPTER, "--init-adapter"))
    out = train(config, base, should_stop, judge)
    if os.environ.get("RANK", "0") == "0":  # of several processes, one prints
        print(out)
    return config


def _check_paths(config: TrainConfig, base: Base | None) -> None:
    """Refuse folders that are missing or in the way before torch is imported; a base on the hub is downloaded."""
    from tiararodney.sekft.folders import check_out  # which needs safetensors

    if "RANK" not in os.environ:  # launched processes do not all find what the first one finds
        check_out(config.out, overwrite=config.overwrite)
    for path in config.data:
        if not path.exists() and not hub.is_hub_id(path):
            raise UsageError(f"--data {path}: no such file or folder. Expected trajectories, or OWNER/NAME on the hub.")
    if base is None:
        hub.find(config.base, hub.MODEL, "--base")


if __name__ == "__main__":
    sys.exit(main())
