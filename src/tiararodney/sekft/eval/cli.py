"""The command ``sekft-eval``."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.eval.config import checked, parse, read, thresholds
from tiararodney.sekft.flags import Common
from tiararodney.sekft.residents import Remote, run_there

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

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
            return compare(given[1:])
        settings = read(given)
        configure_logs(settings.of(Common).verbosity)
        if (remote := settings.of(Remote)).resident is not None:
            return run_there("eval", given, remote)
        return evaluate_and_print(checked(settings))

    return run_cli(work, "sekft-eval", "; finished sessions are kept, give the same command again to go on")


def run(argv: Sequence[str], base: Base, prog: str, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Do the same work on a base that is loaded already.

    Args:
        argv: the flags of sekft-eval; those that say what the base is and how it is held may be left out.
        base: the hot base.
        prog: what the command is called in messages.
        should_stop: asked before each reply; True ends the run as Ctrl-C does.

    Returns:
        0, or 1 where a rate is below ``--fail-under``.
    """
    elsewhere = any(arg.partition("=")[0] in ("--endpoint", "--operator") for arg in argv)
    settled = {} if elsewhere else base.settings()
    return evaluate_and_print(parse(argv, prog, settled), base if settled else None, should_stop)


def evaluate_and_print(
    config: EvalConfig, base: Base | None = None, should_stop: Callable[[], bool] = lambda: False
) -> int:
    """Run an evaluation; the table and the report's path go to stdout.

    Returns:
        0, or 1 where a rate is below ``--fail-under``.
    """
    from tiararodney.sekft.eval.run import evaluate

    with naming_the_extra("a local base"):
        report = evaluate(config, base, should_stop)
    print_report(report, config.out / "report.html", as_json=config.json, all_archetypes=config.by_archetype)
    missed = misses(report, thresholds(config.fail_under))
    for line in missed:
        log.error(line)
    return 1 if missed else 0


def print_report(report: Mapping[str, Any], page: Path | None, *, as_json: bool, all_archetypes: bool) -> None:
    """Print a report on stdout, as JSON or as a table with the page's path below."""
    from tiararodney.sekft.eval.report import table

    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    print(table(report, all_archetypes=all_archetypes))
    if page is not None:
        print(f"\nreport: {page}")


def misses(report: Mapping[str, Any], lowest: Mapping[str, float]) -> list[str]:
    """Return a line for each rate that is below its threshold.

    The base counts only where nothing else was evaluated: beside an adapter it is the reference.
    """
    models = [m for m in report["models"] if m["kind"] != "base"] or report["models"]
    lines = []
    for model in models:
        for name, share in lowest.items():
            value = model["rates"][name]["value"]
            if value is None or value < share:
                found = "nothing was counted" if value is None else f"{value:.3f}"
                lines.append(f"{model['name']}: {name} is {found}, --fail-under asks for {share:g}")
    return lines


def compare(argv: Sequence[str]) -> int:
    """Compare earlier runs: `sekft-eval compare RUN RUN... [flags]`; the first run's first model is the reference."""
    from tiararodney.sekft.eval.compare import compare_runs, read_compare
    from tiararodney.sekft.eval.page import page
    from tiararodney.sekft.folders import write_whole

    config, common = read_compare(argv)
    configure_logs(common.verbosity)
    report, episodes = compare_runs(config.runs)
    if config.out is not None:
        write_whole(config.out, page(report, episodes))
    print_report(report, config.out, as_json=config.json, all_archetypes=config.by_archetype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
