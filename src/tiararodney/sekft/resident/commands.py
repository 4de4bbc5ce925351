"""The resident's commands: a function each, with the flags of the script of the same name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.state import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tiararodney.sekft.resident.state import Resident


class Quit(Exception):
    """The user wants the resident to end."""


def train(resident: Resident, args: list[str]) -> None:
    """Train an adapter; flags as sekft-train."""
    from tiararodney.sekft.sft.cli import run

    config = run(args, base=resident.base, prog="train")
    if config is not None:
        resident.trained[resident.name_for(config.out)] = config.out


def evaluate(resident: Resident, args: list[str]) -> None:
    """Evaluate base and adapters; flags as sekft-eval, --adapter also takes a name."""
    from tiararodney.sekft.eval.cli import run

    run([_known(resident, args, i) for i in range(len(args))], base=resident.base, prog="eval")


def _known(resident: Resident, args: list[str], i: int) -> str:
    """Add the folder to a known adapter's name, as NAME=DIR; a folder of that name wins."""
    word, known = args[i], resident.adapters
    flag, _, value = word.partition("=")
    if flag == "--adapter" and value in known and not Path(value).exists():
        return f"--adapter={value}={known[value]}"
    if i and args[i - 1] == "--adapter" and word in known and not Path(word).exists():
        return f"{word}={known[word]}"
    return word


def adapters(resident: Resident, args: list[str]) -> None:
    """List the adapters."""
    _takes(args, "adapters", 0, 0)
    attached = resident.base.adapters.folders
    rows = [
        (name, "loaded" if name in attached else "trained here", str(path)) for name, path in resident.adapters.items()
    ]
    if not rows:
        print("no adapters: train one, or load DIR [NAME]")
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for name, state, path in rows:
        print(f"{name.ljust(widths[0])}  {state.ljust(widths[1])}  {path}")


def load(resident: Resident, args: list[str]) -> None:
    """Attach an adapter: load DIR|NAME [NAME]."""
    from tiararodney.sekft.model import attach_adapter

    _takes(args, "load DIR [NAME]", 1, 2)
    folder = resident.folder_of(args[0]) if args[0] in resident.adapters else hub.find(args[0], hub.ADAPTER, "load")
    name = args[1] if len(args) > 1 else resident.name_for(folder)
    if "." in name or name == "base" or not name:
        raise UsageError(f"load: found the name {name!r}, expected one without a dot that is not 'base'.")
    attach_adapter(resident.base, folder, name)
    print(f"loaded {name} from {folder}")


def unload(resident: Resident, args: list[str]) -> None:
    """Take an adapter off: unload NAME."""
    from tiararodney.sekft.model import detach_adapter

    _takes(args, "unload NAME", 1, 1)
    detach_adapter(resident.base, args[0])
    print(f"unloaded {args[0]}")


def status(resident: Resident, args: list[str]) -> None:
    """Show what is loaded, and check that the base is unchanged."""
    _takes(args, "status", 0, 0)
    base = resident.base
    failed = sum(job.failed for job in resident.jobs)
    facts: Mapping[str, Any] = {
        "base": base.path,
        "precision": "NF4" if base.four_bit else str(base.dtype).removeprefix("torch."),
        "device": base.device,
        "adapters": ", ".join(base.adapters.folders) or "none loaded",
        "commands": f"{len(resident.jobs)}, {failed} failed",
        "up": f"{time.time() - resident.started:.0f} s",
        "logits": unchanged(resident),
    }
    for name, value in facts.items():
        print(f"{name:<10}{value}")


def unchanged(resident: Resident) -> str:
    """Compare the base's logits with those it was loaded with, bit by bit.

    Returns:
        A line that says so.

    Raises:
        RunFailed: they differ.
    """
    now = probe(resident.base)
    if now != resident.fingerprint:
        raise RunFailed(
            f"the base is no longer what it was: its logits hash to {now[:16]}, at the start to "
            f"{resident.fingerprint[:16]}. No result after this point would mean anything: start the resident again."
        )
    return f"bit for bit as at the start (sha256 {now[:16]})"


def show_help(resident: Resident, args: list[str]) -> None:  # noqa: ARG001 - every command is called alike
    """List the commands."""
    for name, command in COMMANDS.items():
        print(f"{name:<10}{(command.__doc__ or '').splitlines()[0]}")
    print("Flags: train --help, eval --help. --base is the resident's own.")


def leave(resident: Resident, args: list[str]) -> None:  # noqa: ARG001 - every command is called alike
    """End the resident."""
    raise Quit


def _takes(args: list[str], usage: str, least: int, most: int) -> None:
    if not least <= len(args) <= most:
        raise UsageError(f"usage: {usage}; found {len(args)} arguments.")


COMMANDS: Mapping[str, Callable[[Resident, list[str]], None]] = {
    "train": train,
    "eval": evaluate,
    "adapters": adapters,
    "load": load,
    "unload": unload,
    "status": status,
    "help": show_help,
    "quit": leave,
}
ALSO = {"exit": "quit", "?": "help"}
"""Other names of commands."""
JOBS = frozenset({"train", "eval", "load", "unload"})
"""Commands after which the base is probed: those that touch the model."""
