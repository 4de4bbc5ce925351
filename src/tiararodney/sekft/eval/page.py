"""`report.html`: one file without any outside asset, readable without JavaScript, filterable with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval import report as view
from tiararodney.sekft.eval.outcomes import INFRASTRUCTURE, LABELS, MEANINGS, SUCCESS, result
from tiararodney.sekft.render.preview import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode, Generation

_CUT = {"length": "cut at the token limit", "context": "the prompt no longer fits the model"}


def page(report: Mapping[str, Any], episodes: Sequence[Episode], bundles: Mapping[str, Any] | None = None) -> str:
    """Return the whole page.

    Args:
        report: what `report.build_report` made.
        episodes: every episode of the run; those of one scenario and repeat are shown side by side.
        bundles: JSON of the scenarios by id, shown beside their sessions.
    """
    models, archetypes = report["models"], report["scenarios"]["archetypes"]
    sessions = _sessions(episodes, {m["name"]: i for i, m in enumerate(models)}, bundles or {})
    record = {k: v for k, v in report.items() if k not in ("models", "paired")}
    return from_template(
        __package__ or "",
        "report.html.jinja",
        view=view,
        report=report,
        models=models,
        labels=LABELS,
        meanings=MEANINGS,
        archetypes=sorted({e.archetype for e in episodes}),
        many=[a for a, n in archetypes.items() if n >= view.FEW],
        few=[a for a, n in archetypes.items() if n < view.FEW],
        few_below=view.FEW,
        results=sorted({side["result"] for s in sessions for side in s["sides"]}),
        sessions=sessions,
        record=json.dumps(record, indent=2, ensure_ascii=False),
    )


def from_template(package: str, name: str, **values: Any) -> str:
    """Return a page from a template of a package; values are escaped, a name without a value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader(package, ""), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(name).render(**values)


def _sessions(
    episodes: Sequence[Episode], index: Mapping[str, int], bundles: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Collect the episodes of each scenario and repeat, models in the report's order."""
    groups: dict[tuple[str, int], list[Episode]] = {}
    for e in episodes:
        groups.setdefault((e.scenario_id, e.sample), []).append(e)
    repeated = any(sample for _, sample in groups)
    out = []
    for (scenario, sample), group in groups.items():
        sides = [_side(e, index[e.model]) for e in sorted(group, key=lambda e: index[e.model])]
        bundle = bundles.get(scenario)
        out.append(
            {
                "title": f"{scenario} #{sample + 1}" if repeated else scenario,
                "archetype": group[0].archetype,
                "terminal": group[0].terminal,
                "results": "|".join(dict.fromkeys(side["result"] for side in sides)),
                "sides": sides,
                "bundle": None if bundle is None else printable(json.dumps(bundle, indent=2, ensure_ascii=False)),
            }
        )
    return out


def _side(e: Episode, index: int) -> dict[str, Any]:
    came_to = result(e)
    about = {
        "ended": e.ended or "never",
        "commands": e.commands,
        "prose turns": e.prose_turns or "",
        "seconds": f"{e.seconds:.1f}" if e.seconds else "",
        "checker": "" if e.checks else e.checker.strip(),
        "infrastructure error": e.infrastructure,
    }
    by_turn = {g.turn: g for g in e.generations}
    return {
        "index": index,
        "model": e.model,
        "tone": {INFRASTRUCTURE: "warn", SUCCESS: "good"}.get(came_to, "bad"),
        "result": came_to,
        "facts": {k: printable(str(v)) for k, v in about.items() if v != ""},
        "checks": {printable(name): passed for name, passed in e.checks.items()},
        "turns": [_turn(m, by_turn.get(i)) for i, m in enumerate(e.messages)],
    }


def _turn(message: Mapping[str, str], g: Generation | None) -> dict[str, Any]:
    """Return one turn for the transcript: an environment turn ends with the prompt that the command follows."""
    title = ""
    if g is not None and g.prompt_tokens:
        title = f"prompt {g.prompt_tokens} tokens, sha256 {g.prompt_sha256[:16]}…; reply {len(g.reply_ids)} tokens"
    cut = _CUT.get(g.stop if g else "", "")
    return {"role": message["role"], "text": printable(message["content"]), "title": title, "cut": cut}
