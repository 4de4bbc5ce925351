"""Trainings and evaluations that belong together: what sweep and cycle are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.config import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tiararodney.sekft.resident.state import Resident


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as flags.

    Args:
        settings: by the flags' names, in dashes or underscores; a list repeats its flag, None leaves it out.
    """
    argv = []
    for name, value in settings.items():
        flag = str(name).replace("_", "-")
        if isinstance(value, bool):
            argv.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            argv += [f"--{flag}={item}" for item in (value if isinstance(value, list | tuple) else [value])]
    return argv


def check_training(resident: Resident, argv: Sequence[str], prog: str) -> None:
    """Refuse flags of a training that cannot be used, before anything is run.

    Raises:
        UsageError: naming what is wrong.
    """
    from tiararodney.sekft.sft.config import read, train_config

    if train_config(read([*argv, "--out=unused"], prog, resident.base.settings())) is None:
        raise UsageError(f"{prog}: --inspect trains nothing. Leave it out.")


def train_once(resident: Resident, argv: Sequence[str], out: Path) -> None:
    """Train an adapter unless it is there, going on where an interrupted run has left a checkpoint.

    Args:
        resident: with the base.
        argv: flags, without --out.
        out: the adapter's folder.
    """
    from tiararodney.sekft.resident.commands import train
    from tiararodney.sekft.sft.checkpoint import checkpoint_folder

    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if checkpoint_folder(out).exists() else []
    train(resident, *argv, f"--out={out}", *resume)


def evaluate_all(
    resident: Resident, argv: Sequence[str], adapters: Mapping[str, Path], out: Path, prog: str
) -> dict[str, Any]:
    """Play base and adapters in the same worlds; what was played is not played again.

    Args:
        resident: with the base.
        argv: flags, without --adapter and --out.
        adapters: by name.
        out: the report's folder.
        prog: what the command is called in messages.

    Returns:
        The report.
    """
    from tiararodney.sekft.eval.run import evaluate

    named = [f"--adapter={name}={folder}" for name, folder in adapters.items()]
    config = parse([*argv, *named, f"--out={out}"], prog, resident.base.settings())
    return evaluate(config, resident.base, resident.should_stop)
