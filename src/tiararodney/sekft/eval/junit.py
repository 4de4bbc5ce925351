"""A run as JUnit XML, which continuous integration systems show: a suite for each model, a case for each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from tiararodney.sekft.eval.failures import failure
from tiararodney.sekft.render.preview import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode


def junit_xml(report: Mapping[str, Any], episodes: Sequence[Episode]) -> str:
    """Return the document.

    Args:
        report: what `report.build_report` made.
        episodes: of all its models; a failure's type is its kind, an infrastructure error is an ``error``.
    """
    root = ET.Element("testsuites", name="sekft-eval")
    for model in report["models"]:
        rows = [e for e in episodes if e.model == model["name"]]
        broken = sum(bool(e.infrastructure) for e in rows)
        failed = sum(failure(e) is not None for e in rows)
        suite = ET.SubElement(
            root,
            "testsuite",
            name=model["name"],
            tests=str(len(rows)),
            failures=str(failed),
            errors=str(broken),
            time=f"{sum(e.seconds for e in rows):.3f}",
            timestamp=report["started"],
        )
        for e in rows:
            name = f"{e.scenario_id} #{e.sample + 1}" if model["repeats"] > 1 else e.scenario_id
            case = ET.SubElement(suite, "testcase", name=name, classname=e.archetype, time=f"{e.seconds:.3f}")
            if e.infrastructure:
                ET.SubElement(case, "error", type="infrastructure error", message=printable(e.infrastructure))
            elif (cause := failure(e)) is not None:
                ET.SubElement(case, "failure", type=str(cause), message=printable(e.checker.strip() or str(cause)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
