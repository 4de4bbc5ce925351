"""The command ``sekft-resident``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.sekft.console import INTERRUPTED, configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.settings import DTYPE_HELP, DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; importing and building it loads nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="sekft-resident",
        description="Keep a base model loaded and run jobs on it: train, eval, adapters, load, unload, status, help, "
        "quit. Commands are read from a prompt on a terminal, or as lines from a pipe; "
        "train and eval take the flags of sekft-train and sekft-eval.",
        epilog="Exit codes: 0 done, 1 a job of a piped run failed, 2 bad usage or input, 130 interrupted. "
        "Ctrl-C ends the job, not the resident.",
    )
    parser.add_argument("--base", type=Path, required=True, metavar="DIR", help="folder of the base model")
    parser.add_argument("--load-4bit", action="store_true", help="hold the base in 4 bits (NF4)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:0 ... (default: %(default)s)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help=f"{DTYPE_HELP} (default: %(default)s)",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more on stderr")
    parser.add_argument("-q", "--quiet", action="store_true", help="warnings only on stderr")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Load the base and carry out commands until the end of input.

    Args:
        argv: the arguments, the program's own where None.

    Returns:
        0 done, 1 a job of a piped run failed, 2 bad usage or input, 130 interrupted.
    """

    def work() -> int:
        args = build_parser().parse_args(argv)
        configure_logs(-1 if args.quiet else args.verbose)
        return serve(args)

    return run_cli(work, "sekft-resident")


def serve(args: argparse.Namespace) -> int:
    """Load what the flags say, then read commands from stdin."""
    from tiararodney.sekft.resident.loop import serve_lines

    with naming_the_extra("a local base"):
        resident = start(args.base, args.load_4bit, args.device, args.dtype)
    log.info("ready; `help` lists the commands")
    try:
        # Ctrl-C ends a job, so a TERM signal must not look like it: it ends the resident, job and all.
        signal.signal(signal.SIGTERM, _terminate)
        return serve_lines(resident, sys.stdin)
    except _Terminated:
        log.warning("terminated")
        return INTERRUPTED


class _Terminated(BaseException):
    """A TERM signal came."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def start(path: Path, four_bit: bool, device: str, dtype: str) -> Resident:
    """Load a base and take the fingerprint of its logits."""
    from tiararodney.sekft.model import load_base
    from tiararodney.sekft.resident.state import Resident, probe

    base = load_base(path, four_bit, device, dtype)
    return Resident(base, probe(base))


if __name__ == "__main__":
    sys.exit(main())
