"""Play models in fresh worlds and say, with intervals, what they can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.model import Base


def evaluate(config: EvalConfig, base: Base | None = None) -> dict[str, Any]:
    """Play every contestant on the same scenarios and write the report; see `run.evaluate`.

    Args:
        config: what, on what, and how.
        base: a base that is loaded already; it is left bit for bit as it was.

    Returns:
        The report, as written to ``report.json``.
    """
    from tiararodney.sekft.eval import run

    return run.evaluate(config, base)
