"""Lines in, jobs done: from a prompt on a terminal, or from a pipe."""

from __future__ import annotations

import contextlib
import logging
import shlex
import sys
import time
from typing import TYPE_CHECKING, TextIO

from tiararodney.sekft.errors import RunFailed, SekftError, UsageError
from tiararodney.sekft.resident.commands import COMMANDS, JOBS, Quit, unchanged
from tiararodney.sekft.resident.state import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)
PROMPT = "sekft> "


class BaseChanged(RunFailed):
    """A job left the base other than it found it: nothing after it would mean anything."""


def lines(source: TextIO) -> Iterator[str]:
    """Yield command lines until the end of input; on a terminal with a prompt, a history and line editing."""
    if not source.isatty():
        yield from source
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its line editing
    while True:
        try:
            yield input(PROMPT)
        except KeyboardInterrupt:  # Ctrl-C at the prompt clears the line
            print(file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return


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
    for line in lines(source):
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
            log.info("job %d %s; base %s", number, "failed" if failed else "done", unchanged(resident))
        except SekftError as error:
            raise BaseChanged(str(error)) from None
    return not failed


def _carry_out(resident: Resident, words: list[str]) -> bool:
    name, *args = words
    try:
        command = COMMANDS.get(name)
        if command is None:
            raise UsageError(f"{name}: no such command, expected one of {', '.join(COMMANDS)}.")  # noqa: TRY301 - told as every other error is
        command(resident, args)
    except Quit:
        raise
    except SekftError as error:
        _say(f"{name}: {error}")
    except SystemExit as end:  # argparse: --help ends with 0, a wrong flag with 2
        return end.code in (None, 0)
    except KeyboardInterrupt:
        _say(f"{name}: interrupted; the base stays loaded")
    except Exception as error:
        # A job's fault must not take the base down with it; the traceback goes where the log goes.
        log.debug("job failed", exc_info=True)
        _say(f"{name}: {type(error).__name__}: {error}")
    else:
        return True
    finally:
        sys.stdout.flush()
    return False


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
