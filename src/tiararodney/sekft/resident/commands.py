"""The resident's commands: a function each, with the flags of the script of the same name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.console import aligned
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.state import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tiararodney.sekft.resident.state import Resident
    from tiararodney.sekft.sft.callbacks import Judge
    from tiararodney.sekft.sft.config import BehaviourFlags, TrainConfig


def train(resident: Resident, *args: str) -> None:
    """Train an adapter; flags as sekft-train."""
    from tiararodney.sekft.sft.cli import run

    def judge(config: TrainConfig, flags: BehaviourFlags) -> Judge:
        from tiararodney.sekft.resident.behaviour import make_judge

        return make_judge(resident.base, config, flags, resident.should_stop)

    config = run(list(args), resident.base, "train", resident.should_stop, judge)
    if config is not None:
        out = config.out.absolute()  # of the client's folder
        resident.trained[resident.name_for(out)] = out


def evaluate(resident: Resident, *args: str) -> int:
    """Evaluate base and adapters; flags as sekft-eval, --adapter also takes a name."""
    from tiararodney.sekft.eval.cli import run

    folders, flag, known = resident.adapters, "--adapter=", list(args)

    def named(word: str) -> str:  # a folder of that name wins
        return f"{word}={folders[word]}" if word in folders and not Path(word).exists() else word

    for i, word in enumerate(args):
        if word.startswith(flag):
            known[i] = flag + named(word.removeprefix(flag))
        elif i and args[i - 1] == "--adapter":
            known[i] = named(word)
    return run(known, base=resident.base, prog="eval", should_stop=resident.should_stop)


def sweep(resident: Resident, file: str) -> int:
    """Train and evaluate a list or grid of runs, with a leaderboard: sweep FILE.yaml."""
    from tiararodney.sekft.resident.sweep import read_sweep, run_sweep

    return run_sweep(resident, read_sweep(Path(file)))


def cycle(resident: Resident, *args: str) -> int:
    """Let an adapter learn from its own sessions, round by round: cycle --help."""
    from tiararodney.sekft.resident.cycle import run_cycle

    return run_cycle(resident, args)


def adapters(resident: Resident) -> None:
    """List the adapters: adapters."""
    attached = resident.base.adapters.folders
    rows = [
        [name, "loaded" if name in attached else "trained here", str(path)] for name, path in resident.adapters.items()
    ]
    print("\n".join(aligned(rows)) if rows else "no adapters: train one, or load DIR [NAME]")


def load(resident: Resident, adapter: str, name: str = "") -> None:
    """Attach an adapter: load DIR|NAME [NAME]."""
    from tiararodney.sekft.model import attach_adapter

    folder = resident.adapters.get(adapter) or hub.find(adapter, hub.ADAPTER, "load")
    name = name or resident.name_for(folder)
    if "." in name or name == "base":
        raise UsageError(f"found the name {name!r}, expected one without a dot that is not 'base'.")
    attach_adapter(resident.base, folder.absolute(), name)
    print(f"loaded {name} from {folder}")


def unload(resident: Resident, name: str) -> None:
    """Take an adapter off: unload NAME."""
    from tiararodney.sekft.model import detach_adapter

    detach_adapter(resident.base, name)
    print(f"unloaded {name}")


def status(resident: Resident) -> None:
    """Show memory, adapters and queue, and check that the base is unchanged: status."""
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
            f"the base is no longer what it was: its {what} differ from those at the start. No result after this point "
            "would mean anything: start the resident again."
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


def cancel(resident: Resident, number: str = "") -> None:
    """Cancel the job that runs, or one that waits: cancel [NUMBER]."""
    job = resident.queue.find(number)
    resident.queue.cancel(job)
    print(f"cancelling job {job.number}: {job.line}")


def show_help(resident: Resident) -> None:  # noqa: ARG001 - every command is called alike
    """List the commands: help."""
    for name, command in COMMANDS.items():
        print(f"{name:<10}{(command.__doc__ or '').splitlines()[0]}")
    print("Flags: train --help, eval --help. --base is the resident's own.")


def leave(resident: Resident) -> None:
    """End the resident: quit."""
    resident.quitting = True


COMMANDS: Mapping[str, Callable[..., int | None]] = {
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
