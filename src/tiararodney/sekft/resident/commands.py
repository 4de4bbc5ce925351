"""The resident's commands: a function each, with the flags of the script of the same name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.state import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tiararodney.sekft.resident.state import Resident
    from tiararodney.sekft.sft.config import TrainConfig
    from tiararodney.sekft.sft.flags import BehaviourFlags
    from tiararodney.sekft.sft.judge import Judge


class Quit(Exception):
    """The user wants the resident to end."""


def train(resident: Resident, args: list[str]) -> None:
    """Train an adapter; flags as sekft-train."""
    from tiararodney.sekft.sft.cli import run

    def judge(config: TrainConfig, flags: BehaviourFlags) -> Judge:
        from tiararodney.sekft.resident.behaviour import make_judge

        return make_judge(resident.base, config, flags, resident.should_stop)

    config = run(args, resident.base, "train", resident.should_stop, judge)
    if config is not None:
        out = config.out.absolute()  # of the client's folder
        resident.trained[resident.name_for(out)] = out


def evaluate(resident: Resident, args: list[str]) -> int:
    """Evaluate base and adapters; flags as sekft-eval, --adapter also takes a name."""
    from tiararodney.sekft.eval.cli import run

    known = [_known(resident, args, i) for i in range(len(args))]
    return run(known, base=resident.base, prog="eval", should_stop=resident.should_stop)


def _known(resident: Resident, args: list[str], i: int) -> str:
    """Add the folder to a known adapter's name, as NAME=DIR; a folder of that name wins."""
    word, known = args[i], resident.adapters
    flag, _, value = word.partition("=")
    if flag == "--adapter" and value in known and not Path(value).exists():
        return f"--adapter={value}={known[value]}"
    if i and args[i - 1] == "--adapter" and word in known and not Path(word).exists():
        return f"{word}={known[word]}"
    return word


def sweep(resident: Resident, args: list[str]) -> int:
    """Train and evaluate a list or grid of runs, with a leaderboard: sweep FILE.yaml."""
    from tiararodney.sekft.resident.sweep import read_sweep, run_sweep

    _takes(args, "sweep FILE.yaml", 1, 1)
    return run_sweep(resident, read_sweep(Path(args[0])))


def cycle(resident: Resident, args: list[str]) -> int:
    """Let an adapter learn from its own sessions, round by round: cycle --help."""
    from tiararodney.sekft.resident.cycle import run_cycle

    return run_cycle(resident, args)


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
    attach_adapter(resident.base, folder.absolute(), name)
    print(f"loaded {name} from {folder}")


def unload(resident: Resident, args: list[str]) -> None:
    """Take an adapter off: unload NAME."""
    from tiararodney.sekft.model import detach_adapter

    _takes(args, "unload NAME", 1, 1)
    detach_adapter(resident.base, args[0])
    print(f"unloaded {args[0]}")


def status(resident: Resident, args: list[str]) -> None:
    """Show memory, adapters and queue, and check that the base is unchanged."""
    _takes(args, "status", 0, 0)
    base = resident.base
    failed = sum(job.failed for job in resident.jobs)
    queue = [f"{job.number} {job.state}: {job.line} ({job.client})" for job in resident.queue.jobs]
    facts: Mapping[str, Any] = {
        "base": base.path,
        "precision": "NF4" if base.four_bit else str(base.dtype).removeprefix("torch."),
        "device": base.device,
        "adapters": ", ".join(base.adapters.folders) or "none loaded",
        "memory": memory_held(base.device),
        "serving": resident.serving or "no (--serve)",
        "name": resident.name or "no (--name)",
        "commands": f"{len(resident.jobs)}, {failed} failed",
        "queue": "\n          ".join(queue) or "empty",
        "up": f"{time.time() - resident.started:.0f} s",
        # a probe would wait for a job's step, and hold up replies
        "weights": "probed after the job" if queue else unchanged(resident),
    }
    for name, value in facts.items():
        print(f"{name:<10}{value}")


def unchanged(resident: Resident) -> str:
    """Compare the base's weights and logits with those it was loaded with.

    Returns:
        A line that says so.

    Raises:
        RunFailed: they differ.
    """
    now = probe(resident.base)
    before = resident.fingerprint
    if not now.agrees(before):
        what = "logits" if now.weights == before.weights else "weights"
        raise RunFailed(
            f"the base is no longer what it was: its {what} hash to {now.digest[:16]}, at the start to "
            f"{before.digest[:16]}. No result after this point would mean anything: start the resident again."
        )
    return f"bit for bit as at the start (sha256 {now.weights[:16]})"


def put_away(resident: Resident) -> None:
    """Give back what a job has left behind in memory."""
    from tiararodney.sekft.model.memory import release_memory

    if resident.base.adapters.handle is None:
        resident.generator.forget()
    release_memory()


def memory_held(device: str) -> str:
    """Say how much memory this process holds, of the machine and of the accelerator."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    text = f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**30:.2f} GiB"
    if device.startswith("cuda"):
        import torch

        text += f", {torch.cuda.memory_allocated(device) / 2**30:.2f} GiB on {device}"
    return text


def cancel(resident: Resident, args: list[str]) -> None:
    """Cancel the job that runs, or one that waits: cancel [NUMBER]."""
    _takes(args, "cancel [NUMBER]", 0, 1)
    job = resident.queue.find(args[0] if args else None)
    resident.queue.cancel(job)
    print(f"cancelling job {job.number}: {job.line}")


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


COMMANDS: Mapping[str, Callable[[Resident, list[str]], int | None]] = {
    "train": train,
    "eval": evaluate,
    "sweep": sweep,
    "cycle": cycle,
    "adapters": adapters,
    "load": load,
    "unload": unload,
    "status": status,
    "cancel": cancel,
    "help": show_help,
    "quit": leave,
}
ALSO = {"exit": "quit", "?": "help"}
"""Other names of commands."""
JOBS = frozenset({"train", "eval", "sweep", "cycle", "load", "unload"})
"""Commands that touch the model: they wait for their turn, and the base is probed after them."""
