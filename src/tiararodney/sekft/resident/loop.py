"""Lines in, jobs done: from a prompt on a terminal, or from a pipe."""

from __future__ import annotations

import difflib
import inspect
import logging
import shlex
import sys
from typing import TYPE_CHECKING, TextIO

from tiararodney.sekft.console import BAD_USAGE, DONE, FAILED, INTERRUPTED
from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.resident.commands import ALSO, COMMANDS, JOBS, put_away, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.resident.state import Job, Resident

log = logging.getLogger(__name__)


def serve_lines(resident: Resident, source: TextIO) -> int:
    """Carry out line after line until the end of input; on a terminal from a prompt with history and completion.

    Args:
        resident: with its base loaded.
        source: where lines come from.

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
    return int(not source.isatty() and any(job.failed for job in resident.jobs))


def run_line(resident: Resident, line: str) -> bool:
    """Carry out one line; a failure is printed and counted, and the resident goes on.

    Returns:
        Whether it succeeded; true for a line without a command.

    Raises:
        RunFailed: a job changed the base.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        _say(f"{line.strip()}: {error}. Close the quotes.")
        resident.new_job(line.strip()).code = BAD_USAGE
        return False
    return not words or run_words(resident, resident.new_job(line.strip()), words) == DONE


def run_words(resident: Resident, job: Job, words: list[str]) -> int:
    """Carry out one command; one that touches the model waits for its turn, and the base is probed after it.

    Args:
        resident: with its base.
        job: the command's entry.
        words: the command and its arguments.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad usage or input, 130 cancelled or interrupted.

    Raises:
        RunFailed: a job changed the base, this one or one before it: nothing after it would mean anything.
    """
    if words[0] not in JOBS:
        job.code = _carry_out(resident, words)
        return job.code
    if ahead := resident.queue.jobs:
        log.info("job %d waits for job %d", job.number, ahead[-1].number)
    try:
        with resident.queue.turn(job):
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


def _carry_out(resident: Resident, words: list[str]) -> int:
    name, *args = words
    try:
        command = COMMANDS.get(ALSO.get(name, name))
        if command is None:
            close = difflib.get_close_matches(name, COMMANDS, 1)
            meant = f"; did you mean {close[0]}?" if close else "."
            _say(f"{name}: no such command{meant} `help` lists them.")
            return BAD_USAGE
        try:
            bound = inspect.signature(command).bind(resident, *args)
        except TypeError:
            found = f"found {len(args)} argument{'s' * (len(args) != 1)}"
            raise UsageError(f"{found}. {(command.__doc__ or '').splitlines()[0]}") from None
        return command(*bound.args) or DONE
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
        purpose = isinstance(error, SekftError) or isinstance(code, int)
        _say(f"{name}: {error}" if purpose else f"{name}: {type(error).__name__}: {error}")
        return code if isinstance(code, int) else FAILED
    finally:
        sys.stdout.flush()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
