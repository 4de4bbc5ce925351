"""A run as logs of Inspect AI, one for each model, written by Inspect's own package so that its versions agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.failures import failure
from tiararodney.sekft.eval.rates import RATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.episodes import Episode

_ROLES = {"system", "user", "assistant"}


def check_installed() -> None:
    """Refuse early where the package is missing.

    Raises:
        UsageError: inspect_ai cannot be imported.
    """
    from importlib.util import find_spec

    if find_spec("inspect_ai") is None:
        raise UsageError("--log-format inspect needs the package inspect_ai: pip install inspect-ai")


def write_inspect_logs(report: Mapping[str, Any], episodes: Sequence[Episode], folder: Path) -> list[Path]:
    """Write ``<model>.eval`` for every model of a report.

    Args:
        report: what `report.build_report` made.
        episodes: of all its models.
        folder: where to; made where it is missing.

    Returns:
        The files, in the report's order.
    """
    from inspect_ai.log import EvalLog, write_eval_log

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for model in report["models"]:
        file = folder / (re.sub(r"[^A-Za-z0-9._-]+", "-", model["name"]) + ".eval")
        rows = [e for e in episodes if e.model == model["name"]]
        write_eval_log(EvalLog.model_validate(_log(report, model, rows)), str(file))
        files.append(file)
    return files


def _log(report: Mapping[str, Any], model: Mapping[str, Any], episodes: Sequence[Episode]) -> dict[str, Any]:
    ids = list(report["scenarios"]["ids"])
    scores = [
        {
            "name": name,
            "scorer": name,
            "metrics": {
                "mean": {"name": "mean", "value": rate["value"] if rate["value"] is not None else 0.0},
                "ci_low": {"name": "ci_low", "value": rate["low"]},
                "ci_high": {"name": "ci_high", "value": rate["high"]},
            },
            "scored_samples": rate["n"],
        }
        for name, rate in model["rates"].items()
    ]
    config = report["config"]
    return {
        "status": "success",
        "eval": {
            "created": report["started"],
            "task": "sekft-eval",
            "dataset": {"name": "scenarios", "samples": len(ids), "sample_ids": ids},
            "model": f"sekft/{model['name']}",
            "model_base_url": ", ".join(config["endpoint"]) or None,
            "model_generate_config": {"temperature": config["temperature"], "max_tokens": config["max_new_tokens"]},
            "config": {"epochs": model["repeats"]},
            "packages": {k: v for k, v in report["versions"].items() if isinstance(v, str)},
            "metadata": {
                "runtime": report["runtime"],
                "fingerprint": model["fingerprint"],
                "contract": model["contract"],
            },
            "scorers": [{"name": name} for name in RATES],
        },
        "results": {"total_samples": len(episodes), "completed_samples": model["n"], "scores": scores},
        "stats": {"started_at": report["started"], "completed_at": report["finished"]},
        "samples": [_sample(e, model["name"]) for e in episodes],
    }


def _sample(e: Episode, model: str) -> dict[str, Any]:
    messages = [{"role": m["role"], "content": m["content"]} for m in e.messages if m["role"] in _ROLES]
    for message in messages:
        if message["role"] == "assistant":
            message["source"] = "generate"
    last = next((m for m in reversed(messages) if m["role"] == "assistant"), None)
    cause = failure(e)
    explanation = "\n".join(f"{'pass' if c.passed else 'FAIL'}: {c.name}" for c in e.checks) or e.checker
    sample: dict[str, Any] = {
        "id": e.scenario_id,
        "epoch": e.sample + 1,
        "input": next((m["content"] for m in e.messages if m["role"] == "user"), ""),
        "target": e.terminal,
        "messages": messages,
        "output": {
            "model": f"sekft/{model}",
            "choices": [{"message": last, "stop_reason": "stop"}] if last else [],
        },
        "metadata": {"archetype": e.archetype, "failure": cause and str(cause), "ended": e.ended},
        "completed_at": e.finished or None,
        "total_time": e.seconds or None,
    }
    if e.infrastructure:
        sample["error"] = {"message": e.infrastructure, "traceback": "", "traceback_ansi": ""}
        return sample
    sample["scores"] = {
        name: {"value": float(value), "answer": e.ended, "explanation": explanation}
        for name, predicate in RATES.items()
        if (value := predicate(e)) is not None
    }
    return sample
