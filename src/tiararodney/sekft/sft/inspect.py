"""`sekft-train --inspect`: the mask in colour, what is trained of a data set, and what looks wrong. Needs no torch."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import wants_colour
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import Policy, apply_policy, take_fingerprint
from tiararodney.sekft.render.preview import Run, preview, printable, runs
from tiararodney.sekft.sft.survey import Survey, contract_findings
from tiararodney.sekft.trajectories import Filters, read_sessions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.render import Tokenizer


@dataclass(frozen=True)
class InspectConfig:
    """What to look at and how to tell it.

    Args:
        data: folders and files of trajectories.
        base: the model whose tokenizer and template render them, or an adapter's folder.
        hub: names of data sets on the hub.
        max_length: tokens above which training drops an example.
        show: how many sessions are shown in full.
        json: print one JSON object in place of text.
        html: file to write a self-contained page to.
        filters: which trajectories are taken.
        control_tokens: policy for control-token text in messages.
    """

    data: tuple[str, ...]
    base: str
    hub: tuple[str, ...] = ()
    max_length: int = 4096
    show: int = 3
    json: bool = False
    html: str | None = None
    filters: Filters = field(default_factory=Filters)
    control_tokens: Policy = "keep"


@dataclass(frozen=True)
class Shown:
    """A session shown in full: what it is called and the runs of each of its examples."""

    title: str
    examples: tuple[tuple[Run, ...], ...]


def run(config: InspectConfig) -> int:
    """Inspect a data set and print what was found.

    Returns:
        0 where at least one session can be trained on, 1 where every one is refused.

    Raises:
        UsageError: data or base cannot be used.
        SchemaError: a record cannot be taken.
    """
    from tiararodney.sekft.tokenizer import load_tokenizer

    started = time.monotonic()
    tok: Tokenizer = apply_policy(load_tokenizer(config.base), config.control_tokens)
    sessions = read_sessions(config.data, config.filters, hub=config.hub)
    survey, shown, sample = Survey(config.max_length), list[Shown](), None
    for session in sessions:
        examples = survey.add(tok, session)
        sample = sample or (examples[-1] if examples else None)
        if examples and len(shown) < config.show:
            title = f"{session.id or '(no id)'}  {session.archetype}  {session.source}"
            shown.append(Shown(title, tuple(tuple(runs(tok, e)) for e in examples)))
    report = {
        "base": config.base,
        "data": [*config.data, *config.hub],
        "read": sessions.read,
        "dropped": {why: {"count": n, "places": sessions.examples[why]} for why, n in sessions.dropped.most_common()},
        **survey.to_json(),
        "findings": contract_findings(tok, sample),
        "contract": take_fingerprint(tok, config.control_tokens).to_json(),
        "seconds": round(time.monotonic() - started, 3),
    }
    if config.html:
        _write_page(Path(config.html), report, shown)
    if config.json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        _tell(report, survey, shown, colour=wants_colour(sys.stdout))
    return 0 if survey.rendered else 1


def _write_page(path: Path, report: dict[str, Any], shown: list[Shown]) -> None:
    from tiararodney.sekft.sft.page import inspection_page

    try:
        path.write_text(inspection_page(report, shown), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {path}: found {error.strerror}, expected a file that can be written.") from None


def _tell(report: dict[str, Any], survey: Survey, shown: list[Shown], *, colour: bool) -> None:
    """Print the report as text."""
    out = sys.stdout.write
    for item in shown:
        out(f"=== {printable(item.title)}\n")
        for n, example in enumerate(item.examples, 1):
            if len(item.examples) > 1:
                out(f"--- example {n} of {len(item.examples)}\n")
            out(preview(example, colour=colour).rstrip("\n") + "\n")
        out("\n")
    if shown:
        legend = preview([Run("like this", trained=True, start=0, end=1)], colour=colour)
        out(f"trained: {legend}, everything else is context\n\n")
    lengths = ", ".join(f"{k} {v}" for k, v in report["example_length"].items())
    rows = [
        ("sessions", f"{survey.rendered} rendered of {survey.sessions} kept of {report['read']} read"),
        ("examples", f"{survey.examples}, {survey.split.count} sessions split"),
        ("tokens", f"{survey.tokens}, {survey.trained} trained ({report['trained_share']:.1%})"),
        ("length", lengths or "no example"),
        ("commands", f"{survey.commands}, endings {_counts(report['terminals'])}"),
        ("too long", f"{survey.too_long.count} examples over --max-length {survey.max_length}"),
    ]
    out("".join(f"{name:<12}{text}\n" for name, text in rows))
    for title, tallies in _sections(report):
        out(f"\n{title}\n" + "".join(f"  {line}\n" for line in tallies))


def _sections(report: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    """Yield the findings that are there, each kind with its lines."""

    def told(rows: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
        return [printable(f"{n['count']:>6}  {name}: {'; '.join(n['places'])}").replace("\n", "⏎") for name, n in rows]

    leaks = report["leaks"]
    control = ((f"{c['token']} in {c['where']}", c) for c in report["control_token_text"])
    kinds: list[tuple[str, list[str]]] = [
        ("dropped while reading", told(report["dropped"].items())),
        ("refused", told(report["refusals"].items())),
        ("split", told([("sessions", report["split_sessions"])]) if report["split_sessions"]["count"] else []),
        ("too long", told([("examples", report["over_max_length"])]) if report["over_max_length"]["count"] else []),
        ("text of control tokens", told(control)),
        ("tokens across the border of prompt and reply", told((repr(m["token"]), m) for m in report["border_merges"])),
        ("duplicates", told([("sessions", report["duplicates"])]) if report["duplicates"]["count"] else []),
        ("leaks between splits", [f"{kind}: {', '.join(names)}" for kind, names in leaks.items() if names]),
        ("the template", report["findings"]),
    ]
    return ((title, lines) for title, lines in kinds if lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{k} {v}" for k, v in counts.items()) or "none"
