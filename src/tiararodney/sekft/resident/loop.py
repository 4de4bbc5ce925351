"""Lines in, jobs done: from a prompt on a terminal, or from a pipe."""

from __future__ import annotations

import difflib
import logging
import shlex
import sys
import time
from typing import TYPE_CHECKING, TextIO

from tiararodney.sekft.errors import RunFailed, SekftError
from tiararodney.sekft.resident.commands import ALSO, COMMANDS, JOBS, Quit, unchanged
from tiararodney.sekft.resident.state import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        BaseChanged: the job changed the base.
    """
    started = time.monotonic()
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        words, failed = [], True
        _say(f"{line.strip()}: {error}. Close the quotes.")
    else:
        if not words:
            return True
        failed = not _carry_out(resident, words)
    number = len(resident.jobs) + 1
    resident.jobs.append(Job(number, line.strip(), failed, time.monotonic() - started))
    if words and words[0] in JOBS:
        try:
            unchanged(resident)
        except SekftError as error:
            raise BaseChanged(str(error)) from None
        log.info("job %d %s in %.1f s", number, "failed" if failed else "done", resident.jobs[-1].seconds)
    return not failed


def _carry_out(resident: Resident, words: list[str]) -> bool:
    name, *args = words
    try:
        command = COMMANDS.get(ALSO.get(name, name))
        if command is None:
            close = difflib.get_close_matches(name, COMMANDS, 1)
            meant = f"; did you mean {close[0]}?" if close else "."
            _say(f"{name}: no such command{meant} `help` lists them.")
            return False
        command(resident, args)
    except Quit:
        raise
    except SystemExit as end:  # argparse: --help ends with 0, a wrong flag with 2
        return end.code in (None, 0)
    except KeyboardInterrupt:
        _say(f"{name}: interrupted; the base stays loaded")
    except Exception as error:
        # A job's fault must not take the base down with it; the traceback goes where the log goes. An error that
        # carries an exit code was raised on purpose, here or in posix-sdc: its message is enough.
        log.debug("job failed", exc_info=True)
        purpose = isinstance(error, SekftError) or isinstance(getattr(error, "exit_code", None), int)
        _say(f"{name}: {error}" if purpose else f"{name}: {type(error).__name__}: {error}")
    else:
        return True
    finally:
        sys.stdout.flush()
    return False


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
