"""`--inspect --html`: the inspection as one page that needs nothing else, for sharing."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from tiararodney.sekft.render.preview import printable
from tiararodney.sekft.sft.inspection.report import differences, figures, sections, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.sft.inspection.report import Shown

_NAMED = 20  # of the archetypes and endings


def inspection_page(report: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """Return the page's HTML.

    Args:
        report: the JSON values that `inspect.run` prints.
        shown: the sessions to show in full.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Sessions hold control characters, which a browser would act on or drop.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    source = files("tiararodney.sekft.sft.inspection").joinpath("page.html").read_text(encoding="utf-8")
    endpoint = report["endpoint"]
    return environment.from_string(source).render(
        report=report,
        shown=shown,
        figures=figures(report),
        named=_NAMED,
        sections=sections(report),
        verdict=verdict(endpoint) if endpoint else "",
        differences=differences(endpoint) if endpoint else [],
    )
