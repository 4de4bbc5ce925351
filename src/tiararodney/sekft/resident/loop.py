"""Lines in, jobs done: from a prompt on a terminal, or from a pipe."""

from __future__ import annotations

import difflib
import logging
import shlex
import sys
from typing import TYPE_CHECKING, TextIO

from tiararodney.sekft.console import BAD_USAGE, DONE, FAILED, INTERRUPTED
from tiararodney.sekft.errors import RunFailed, SekftError
from tiararodney.sekft.resident import jobs
from tiararodney.sekft.resident.commands import ALSO, COMMANDS, JOBS, Quit, put_away, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.sekft.resident.jobs import Job
    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)


class BaseChanged(RunFailed):
    """A job left the base other than it found it: nothing after it would mean anything."""


def lines(resident: Resident, source: TextIO) -> Iterator[str]:
    """Yield command lines until the end of input; on a terminal from a prompt with history and completion."""
    if not source.isatty():
        yield from source
        return
    from tiararodney.sekft.resident.prompt import prompt_lines

    yield from prompt_lines(resident)


def serve_lines(resident: Resident, source: TextIO) -> int:
    """Carry out line after line.

    Args:
        resident: with its base loaded.
        source: where lines come from.

    Returns:
        0, or 1 where lines came from a pipe and a job failed.

    Raises:
        BaseChanged: a job changed the base.
    """
    piped = not source.isatty()
    for line in lines(resident, source):
        try:
            run_line(resident, line)
        except Quit:
            resident.quitting = True
            break
    return int(piped and any(job.failed for job in resident.jobs))


def run_line(resident: Resident, line: str) -> bool:
    """Carry out one line; a failure is printed and counted, and the resident goes on.

    Returns:
        Whether it succeeded; true for a line without a command.

    Raises:
        Quit: the line asks for the end.
        BaseChanged: a job changed the base.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        _say(f"{line.strip()}: {error}. Close the quotes.")
        _end(resident.new_job(line.strip()), BAD_USAGE)
        return False
    if not words:
        return True
    return run_words(resident, resident.new_job(line.strip()), words) == DONE


def run_words(resident: Resident, job: Job, words: list[str]) -> int:
    """Carry out one command; one that touches the model waits for its turn, and the base is probed after it.

    Args:
        resident: with its base.
        job: the command's entry.
        words: the command and its arguments.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad usage or input, 130 cancelled or interrupted.

    Raises:
        Quit: the command asks for the end.
        BaseChanged: a job changed the base, this one or one before it.
    """
    if words[0] not in JOBS:
        return _end(job, _carry_out(resident, words))
    if ahead := resident.queue.jobs:
        log.info("job %d waits for job %d", job.number, ahead[-1].number)
    try:
        with resident.queue.turn(job):
            if resident.changed:
                raise BaseChanged(resident.changed)
            resident.current = job
            code = _carry_out(resident, words)
            try:
                put_away(resident)
                unchanged(resident)
            except SekftError as error:
                resident.changed = str(error)
                raise BaseChanged(resident.changed) from None
            finally:
                resident.current = None
    except KeyboardInterrupt:  # before its turn came
        code = INTERRUPTED
    _end(job, code)
    log.info("job %d %s in %.1f s", job.number, job.state, job.seconds)
    return code


def _end(job: Job, code: int) -> int:
    job.code = code
    job.state = {DONE: jobs.DONE, INTERRUPTED: jobs.CANCELLED}.get(code, jobs.FAILED)
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
        return command(resident, args) or DONE
    except Quit:
        raise
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
