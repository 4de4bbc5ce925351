"""The verdict of a checker: whether the world passes, and the result of each check."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DETAIL = 4096  # characters
_LINE = re.compile(r"^(not )?ok \d+(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Check:
    """One check of a verdict.

    Args:
        name: what has to hold, in plain words.
        passed: whether it does.
    """

    name: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """Verdict of a checker on a world's state.

    Args:
        passed: it ended with status 0, and no check failed.
        detail: the end of its output.
        checks: results of its checks, from lines ``ok 1 - NAME`` and ``not ok 2 - NAME`` (Test Anything Protocol);
            empty if the checker prints none.
    """

    passed: bool
    detail: str
    checks: tuple[Check, ...] = ()


def verdict(status: int, output: str) -> Verdict:
    """Read a checker's exit status and output.

    Args:
        status: of the checker; 0 is yes.
        output: all that it printed.
    """
    checks = tuple(Check(found[2] or found[0], not found[1]) for found in _LINE.finditer(output))
    return Verdict(status == 0 and all(check.passed for check in checks), output[-_DETAIL:], checks)
