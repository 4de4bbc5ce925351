"""The command ``sekft-eval``."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiararodney.sekft.console import configure_logs, run_cli
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.eval.config import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.model import Base


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print the table and where the report lies.

    Args:
        argv: the arguments, the program's own where None.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.
    """

    def work() -> int:
        config, args = parse(list(sys.argv[1:] if argv is None else argv))
        configure_logs(-1 if args.quiet else args.verbose)
        evaluate_and_print(config)
        return 0

    try:
        return run_cli(work, "sekft-eval")
    except SystemExit as stop:  # argparse's own way out, of --help and wrong flags
        return int(stop.code or 0)


def run(argv: Sequence[str], base: Base, prog: str) -> EvalConfig:
    """Do the same work on a base that is loaded already.

    Args:
        argv: the flags of sekft-eval; those that say what the base is and how it is held may be left out.
        base: the hot base.
        prog: what the command is called in messages.

    Returns:
        The configuration of the run that was done.
    """
    settled = {
        "base": base.path,
        "load_4bit": base.four_bit,
        "device": base.device,
        "dtype": str(base.dtype).removeprefix("torch."),
    }
    if any(arg.partition("=")[0] == "--endpoint" for arg in argv):
        settled = {}
    config, _ = parse(list(argv), prog, settled)
    evaluate_and_print(config, base if settled else None)
    return config


def evaluate_and_print(config: EvalConfig, base: Base | None = None) -> None:
    """Run an evaluation; the table and the report's path go to stdout."""
    from tiararodney.sekft.eval.report import table
    from tiararodney.sekft.eval.run import evaluate

    with the_extra_named():
        report = evaluate(config, base)
    print(table(report))
    print(f"\nreport: {config.out / 'report.html'}")


@contextmanager
def the_extra_named() -> Iterator[None]:
    """Say how to install what a local base needs, where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "peft", "safetensors", "accelerate"):
            raise
        raise RunFailed(
            f"a local base needs the package {error.name}. Install it: pip install 'tiararodney.sekft[gpu]'."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
