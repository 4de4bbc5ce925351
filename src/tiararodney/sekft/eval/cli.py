"""The command ``sekft-eval``."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.eval.config import checked, parse, read, thresholds
from tiararodney.sekft.flags import Common
from tiararodney.sekft.residents import Remote, run_there

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.model import Base

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, print the table and where the report lies.

    Args:
        argv: the arguments, the program's own where None.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        if given[:1] == ["compare"]:
            from tiararodney.sekft.eval.compare import compare

            return compare(given[1:])
        settings = read(given)
        configure_logs(settings.of(Common).verbosity)
        if (remote := settings.of(Remote)).resident is not None:
            return run_there("eval", given, remote)
        return _run(checked(settings))

    return run_cli(work, "sekft-eval", "; finished sessions are kept, give the same command again to go on")


def run(argv: Sequence[str], base: Base, prog: str, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Run an evaluation on a base that is loaded already.

    Args:
        argv: the flags of sekft-eval; those that say what the base is and how it is held may be left out.
        base: the hot base.
        prog: what the command is called in messages.
        should_stop: asked before each reply; True ends the run as Ctrl-C does.

    Returns:
        0, or 1 where a rate is below ``--fail-under``.
    """
    if any(arg.partition("=")[0] in ("--endpoint", "--operator") for arg in argv):
        return _run(parse(argv, prog), None, should_stop)
    return _run(parse(argv, prog, base.settings()), base, should_stop)


def _run(config: EvalConfig, base: Base | None = None, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Run an evaluation; the table and the report's path go to stdout."""
    from tiararodney.sekft.eval.report import print_report
    from tiararodney.sekft.eval.run import evaluate

    with naming_the_extra("a local base"):
        report = evaluate(config, base, should_stop)
    print_report(report, config.out / "report.html", as_json=config.json, all_archetypes=config.by_archetype)
    missed = misses(report, thresholds(config.fail_under))
    for line in missed:
        log.error(line)
    return int(bool(missed))


def misses(report: Mapping[str, Any], lowest: Mapping[str, float]) -> list[str]:
    """Return a line for each rate that is below its threshold.

    The base counts only where nothing else was evaluated: beside an adapter it is the reference.
    """
    lines = []
    for model in [m for m in report["models"] if m["kind"] != "base"] or report["models"]:
        for name, share in lowest.items():
            value = model["rates"][name]["value"]
            if value is None or value < share:
                found = "nothing was counted" if value is None else f"{value:.3f}"
                lines.append(f"{model['name']}: {name} is {found}, --fail-under asks for {share:g}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
