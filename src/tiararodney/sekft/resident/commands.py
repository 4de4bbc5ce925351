"""The resident's commands, a function each, and the lines that ask for them, from a prompt or from a pipe."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tiararodney.sekft import hub
from tiararodney.sekft.console import BAD_USAGE, DONE, FAILED, INTERRUPTED, aligned
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.resident.state import put_away, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tiararodney.sekft.resident.state import Job, Resident

log = logging.getLogger(__name__)


def train(resident: Resident, *args: str) -> None:
    """Train an adapter; flags as sekft-train."""
    from tiararodney.sekft.resident.runs import make_judge
    from tiararodney.sekft.sft.cli import run

    config = run(list(args), resident.base, "train", resident.should_stop, partial(make_judge, resident))
    if config is not None:
        out = config.out.absolute()  # of the client's folder
        resident.trained[resident.name_for(out)] = out


def evaluate(resident: Resident, *args: str) -> int:
    """Evaluate base and adapters; flags as sekft-eval, --adapter also takes a name."""
    from tiararodney.sekft.eval.cli import run

    folders, flag = resident.adapters, "--adapter="

    def named(before: str, word: str) -> str:
        name = word.removeprefix(flag)
        known = name in folders and not Path(name).exists()  # a folder of that name wins
        return f"{word}={folders[name]}" if known and (before == "--adapter" or word != name) else word

    given = [named(*pair) for pair in zip(("", *args), args, strict=False)]
    return run(given, base=resident.base, prog="eval", should_stop=resident.should_stop)


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
    failed = sum(bool(job.code) for job in resident.jobs)
    queue = [f"{job.number} {job.state}: {job.line} ({job.client})" for job in list(resident.queue)]
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
    jobs = list(resident.queue)
    job = next((job for job in jobs if number in ("", str(job.number))), None)
    if job is None:
        there = ", ".join(str(job.number) for job in jobs) or "none"
        raise UsageError(f"found no job {number or 'that runs'}. Running or waiting: {there}.")
    job.cancelled = True
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


def serve_lines(resident: Resident, source: TextIO) -> int:
    """Carry out line after line until the end of input; on a terminal from a prompt with history and completion.

    Returns:
        0, or 1 where lines came from a pipe and a job failed.

    Raises:
        RunFailed: a job changed the base.
    """
    lines: Iterable[str] = source
    if source.isatty():
        from tiararodney.sekft.resident.prompt import prompt_lines

        lines = prompt_lines(resident)
    for line in lines:
        run_line(resident, line)
        if resident.quitting:
            break
    return int(not source.isatty() and any(job.code for job in resident.jobs))


def run_line(resident: Resident, line: str) -> bool:
    """Carry out one line, if it holds a command, and return whether it succeeded; a failure is printed and counted."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        _say(f"{line.strip()}: {error}. Close the quotes.")
        resident.new_job(line.strip()).code = BAD_USAGE
        return False
    return not words or run_words(resident, resident.new_job(line.strip()), words) == DONE


def run_words(resident: Resident, job: Job, words: list[str]) -> int:
    """Carry out a command, words[0], and return its exit code.

    One that touches the model waits for its turn, and the base is probed after it.

    Raises:
        RunFailed: a job changed the base, this one or one before it: nothing after it would mean anything.
    """
    if words[0] not in JOBS:
        job.code = _carry_out(resident, words)
        return job.code
    if ahead := list(resident.queue):
        log.info("job %d waits for job %d", job.number, ahead[-1].number)
    try:
        with resident.turn(job):
            if resident.changed:
                raise RunFailed(resident.changed)
            code = _carry_out(resident, words)
            try:
                put_away(resident)
                unchanged(resident)
            except SekftError as error:
                resident.changed = str(error)
                raise RunFailed(resident.changed) from None
    except KeyboardInterrupt:  # before its turn came
        code = INTERRUPTED
    job.code = code
    log.info("job %d %s in %.1f s", job.number, job.state, job.seconds)
    return code


def _call(resident: Resident, name: str, args: list[str]) -> int:
    command = COMMANDS.get(ALSO.get(name, name))
    if command is None:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        raise UsageError(f"no such command{f'; did you mean {close[0]}?' if close else '.'} `help` lists them.")
    try:
        bound = inspect.signature(command).bind(resident, *args)
    except TypeError:
        found = f"found {len(args)} argument{'s' * (len(args) != 1)}"
        raise UsageError(f"{found}. {(command.__doc__ or '').splitlines()[0]}") from None
    return command(*bound.args) or DONE


def _carry_out(resident: Resident, words: list[str]) -> int:
    name, *args = words
    try:
        return _call(resident, name, args)
    except SystemExit as end:  # argparse: --help ends with 0, a wrong flag with 2
        return int(end.code or 0)
    except KeyboardInterrupt:
        _say(f"{name}: interrupted; the base stays loaded")
        return INTERRUPTED
    except Exception as error:
        # A job's fault must not take the base down with it; the traceback goes where the log goes. An error that
        # carries an exit code was raised on purpose, here or in posix-sdc: its message is enough.
        log.debug("job failed", exc_info=True)
        code = getattr(error, "exit_code", None)
        kind = "" if isinstance(error, SekftError) or code is not None else f"{type(error).__name__}: "
        _say(f"{name}: {kind}{error}")
        return FAILED if code is None else int(code)
    finally:
        sys.stdout.flush()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
