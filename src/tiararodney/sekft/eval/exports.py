"""What a run is written as: the page, JUnit XML, and logs of Inspect AI, written by Inspect's own package."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from tiararodney.sekft.eval import outcomes
from tiararodney.sekft.eval import report as view
from tiararodney.sekft.eval.outcomes import RATES, SUCCESS, result
from tiararodney.sekft.eval.statistics import group
from tiararodney.sekft.render.preview import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.episodes import Episode, Generation


def page(report: Mapping[str, Any], episodes: Sequence[Episode], bundles: Mapping[str, Any] | None = None) -> str:
    """Return `report.html`: one file without outside assets, readable without JavaScript, filterable with it.

    Args:
        report: what `report.build_report` made.
        episodes: every episode of the run; those of one scenario and repeat are shown side by side.
        bundles: JSON of the scenarios by id, shown beside their sessions.
    """
    archetypes = report["scenarios"]["archetypes"]
    index = {m["name"]: i for i, m in enumerate(report["models"])}
    ordered = sorted(episodes, key=lambda e: index[e.model])
    record = {k: v for k, v in report.items() if k not in ("models", "paired")}
    return from_template(
        __package__ or "",
        "report.html.jinja",
        view=view,
        report=report,
        outcomes=outcomes,
        index=index,
        many=[a for a, n in archetypes.items() if n >= view.FEW],
        few=[a for a, n in archetypes.items() if n < view.FEW],
        results=sorted({result(e) for e in episodes}),
        sessions=group([(e.scenario_id, e.sample) for e in ordered], ordered),
        repeated=any(e.sample for e in episodes),
        bundles={k: json.dumps(bundle, indent=2, ensure_ascii=False) for k, bundle in (bundles or {}).items()},
        turns=_turns,
        printable=printable,
        record=json.dumps(record, indent=2, ensure_ascii=False),
    )


def from_template(package: str, name: str, **values: Any) -> str:
    """Return a page from a template of a package; values are escaped, a name without a value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader(package, ""), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(**values)


def _turns(e: Episode) -> list[tuple[Mapping[str, str], Generation | None]]:
    """Return each message, and how it came about."""
    generations = {g.turn: g for g in e.generations}
    return [(message, generations.get(i)) for i, message in enumerate(e.messages)]


def junit_xml(report: Mapping[str, Any], episodes: Sequence[Episode]) -> str:
    """Return a report and its episodes as JUnit XML, for continuous integration: a suite a model, a case a session.

    A failure's type is its kind, an infrastructure error is an ``error``.
    """
    root = ET.Element("testsuites", name="sekft-eval")
    for model in report["models"]:
        rows = [e for e in episodes if e.model == model["name"]]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=model["name"],
            timestamp=report["started"],
            tests=str(model["episodes"]),
            failures=str(sum(model["failures"].values())),
            errors=str(model["infrastructure_errors"]),
            time=f"{sum(e.seconds for e in rows):.3f}",
        )
        for e in rows:
            name = f"{e.scenario_id} #{e.sample + 1}" if model["repeats"] > 1 else e.scenario_id
            case = ET.SubElement(suite, "testcase", name=name, classname=e.archetype, time=f"{e.seconds:.3f}")
            if (kind := result(e)) != SUCCESS:
                message = e.infrastructure or e.checker.strip() or kind
                ET.SubElement(case, "error" if e.infrastructure else "failure", type=kind, message=printable(message))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def write_inspect_logs(report: Mapping[str, Any], episodes: Sequence[Episode], folder: Path) -> None:
    """Write ``<model>.eval`` for every model of a report; the folder is made where it is missing."""
    from inspect_ai.log import EvalLog, write_eval_log

    folder.mkdir(parents=True, exist_ok=True)
    for model in report["models"]:
        file = folder / (re.sub(r"[^A-Za-z0-9._-]+", "-", model["name"]) + ".eval")
        rows = [e for e in episodes if e.model == model["name"]]
        write_eval_log(EvalLog.model_validate(_log(report, model, rows)), str(file))


def _log(report: Mapping[str, Any], model: Mapping[str, Any], episodes: Sequence[Episode]) -> dict[str, Any]:
    ids, config = list(report["scenarios"]["ids"]), report["config"]
    scores = []
    for name, rate in model["rates"].items():
        values = {"mean": rate["value"] or 0.0, "ci_low": rate["low"], "ci_high": rate["high"]}
        metrics = {key: {"name": key, "value": value} for key, value in values.items()}
        scores.append({"name": name, "scorer": name, "metrics": metrics, "scored_samples": rate["n"]})
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
            "packages": report["versions"],
            "metadata": {"runtime": report["runtime"]} | {k: model[k] for k in ("fingerprint", "contract")},
            "scorers": [{"name": name} for name in RATES],
        },
        "results": {"total_samples": len(episodes), "completed_samples": model["n"], "scores": scores},
        "stats": {"started_at": report["started"], "completed_at": report["finished"]},
        "samples": [_sample(e, model["name"]) for e in episodes],
    }


def _sample(e: Episode, model: str) -> dict[str, Any]:
    generated = {"source": "generate"}
    messages = [dict(m) | (generated if m["role"] == "assistant" else {}) for m in e.messages]
    choices = [{"message": m, "stop_reason": "stop"} for m in messages if m["role"] == "assistant"]
    explanation = "\n".join(f"{'pass' if passed else 'FAIL'}: {name}" for name, passed in e.checks.items())
    sample: dict[str, Any] = {
        "id": e.scenario_id,
        "epoch": e.sample + 1,
        "input": next((m["content"] for m in e.messages if m["role"] == "user"), ""),
        "target": e.terminal,
        "messages": messages,
        "output": {"model": f"sekft/{model}", "choices": choices[-1:]},
        "metadata": {"archetype": e.archetype, "result": result(e), "ended": e.ended},
        "completed_at": e.finished or None,
        "total_time": e.seconds or None,
    }
    if e.infrastructure:
        return sample | {"error": {"message": e.infrastructure, "traceback": "", "traceback_ansi": ""}}
    about = {"answer": e.ended, "explanation": explanation or e.checker}
    return sample | {"scores": {name: {"value": float(holds(e))} | about for name, holds in RATES.items()}}
