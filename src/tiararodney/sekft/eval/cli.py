"""The command ``sekft-eval``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.eval.config import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        config, common = parse(sys.argv[1:] if argv is None else argv)
        configure_logs(common.verbosity)
        evaluate_and_print(config)
        return 0

    return run_cli(work, "sekft-eval")


def run(argv: Sequence[str], base: Base, prog: str) -> EvalConfig:
    """Do the same work on a base that is loaded already.

    Args:
        argv: the flags of sekft-eval; those that say what the base is and how it is held may be left out.
        base: the hot base.
        prog: what the command is called in messages.

    Returns:
        The configuration of the run that was done.
    """
    elsewhere = any(arg.partition("=")[0] == "--endpoint" for arg in argv)
    settled = {} if elsewhere else base.settings()
    config, _ = parse(argv, prog, settled)
    evaluate_and_print(config, base if settled else None)
    return config


def evaluate_and_print(config: EvalConfig, base: Base | None = None) -> None:
    """Run an evaluation; the table and the report's path go to stdout."""
    from tiararodney.sekft.eval.report import table
    from tiararodney.sekft.eval.run import evaluate

    with naming_the_extra("a local base"):
        report = evaluate(config, base)
    print(table(report))
    print(f"\nreport: {config.out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
