"""What every console script shares: how errors become exit codes, where logs go, what colours mean."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
_STDOUT = 1  # the descriptor


def run_cli(work: Callable[[], int], name: str = "", after: str = "") -> int:
    """Run a command's work and turn what it raises into an exit code.

    An error that carries an ``exit_code`` was raised on purpose (sekft's and posix-sdc's trees both do): it is one
    message on stderr and no traceback. Anything else is a defect of ours and keeps its traceback.

    Args:
        work: does the work and returns the exit code.
        name: the command's name, put before the message.
        after: what to add to "interrupted": how to go on.

    Returns:
        What the work returned; 130 after Ctrl-C or a TERM signal; 0 where the reader of stdout went away; what argparse
        ended with, 0 after ``--help`` and 2 after wrong flags.
    """
    settle_libraries()
    prefix = f"{name}: " if name else ""
    with suppress(ValueError):  # only the main thread may set handlers
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # TERM ends the work as Ctrl-C does
    try:
        code = work()
        sys.stdout.flush()
    except SystemExit as stop:  # argparse's own way out
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print(f"{prefix}interrupted{after}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        poll = select.poll()
        poll.register(_STDOUT, 0)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            raise  # another pipe broke: a defect
        # The reader (head, less) has seen enough. Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return DONE
    except Exception as error:
        code_of = getattr(error, "exit_code", None)
        if not isinstance(code_of, int):
            raise
        print(f"{prefix}{error}", file=sys.stderr)
        return code_of
    return code


@contextmanager
def naming_the_extra(what: str) -> Iterator[None]:
    """Say how to install what a work (`what`, the subject of "needs the package ...") needs, where it is missing.

    Raises:
        UsageError: A package, none of ours, cannot be found.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("tiararodney"):
            raise
        raise UsageError(
            f"{what} needs the package {error.name}. Install it: pip install 'tiararodney.sekft[gpu]'."
        ) from None


def settle_libraries() -> None:
    """Set what torch, its libraries and transformers read from the environment as they load; the user's values stay."""
    # It reports a torch that is missing where none is needed.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        # Waiting threads soon sleep: a spinning one keeps from the core the one it waits for. On two cores with other
        # work beside, training ran at 13 tokens/s with libgomp's own 300,000 turns of spinning and at 185 with none. A
        # thousand save a tenth of the time on two quiet cores, where each sleep delays a short operation, and cost a
        # tenth beside a busy process.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # oneDNN keeps a kernel for each shape of a matrix product, 0.6 MB each, and ideep, torch's way to it, a description
    # of 0.26 MB in each thread, a thousand of all by default. Every packed row has shapes of its own, so memory grew
    # for hundreds of steps. A description made anew takes 20 microseconds, a kernel 640.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "32")  # ideep's, by its own name
    # glibc serves all threads from one heap: two rows at once took 400 MB more where each thread has its own.
    arena_max = -8  # M_ARENA_MAX of malloc.h; other C libraries have no such call, or do nothing in it
    if "MALLOC_ARENA_MAX" not in os.environ and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(arena_max, 1)


def configure_logs(verbosity: int = 0) -> None:
    """Send log records to stderr: at `verbosity` 0 what goes on, above (``-v``) details, below (``-q``) warnings."""
    level = logging.DEBUG if verbosity > 0 else logging.INFO if verbosity == 0 else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Short("%(asctime)s", datefmt="%H:%M:%S"))
    root = logging.getLogger("tiararodney")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
    if verbosity <= 0 and not sys.warnoptions:
        # torch and transformers warn of each other's future; nobody but us can do anything about it
        warnings.filterwarnings("ignore", category=FutureWarning)
    # As peft imports it, it warns that a hub package with another CPU kernel is missing; nothing here uses that kernel.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


class _Short(logging.Formatter):
    """``12:30:00 message``; warnings and errors name their level, -v the module too."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Put time, level and module before the message."""
        verbose = logging.getLogger("tiararodney").isEnabledFor(logging.DEBUG)
        module = f"{record.name.removeprefix('tiararodney.')}: " if verbose else ""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{record.asctime} {module}{level}{record.message}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines of columns; a row with fewer cells is text from its last cell on."""
    width = max(map(len, rows), default=0)
    whole = [row for row in rows if len(row) == width]
    widths = [max(len(row[i]) for row in whole) for i in range(width)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)).rstrip() for row in rows]


def wants_colour(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal that shows colours (NO_COLOR and FORCE_COLOR are heeded)."""
    forced = bool(os.environ.get("FORCE_COLOR"))
    return not os.environ.get("NO_COLOR") and (forced or (stream.isatty() and os.environ.get("TERM") != "dumb"))
