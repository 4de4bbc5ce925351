"""What an inspection shows, as text for a terminal and as a page of HTML."""

from __future__ import annotations

import json
import textwrap
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from tiararodney.sekft.render.preview import Run, preview, printable, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiararodney.sekft.render import Example, Tokenizer
    from tiararodney.sekft.trajectories import Session

_TITLE, _OFF = "\x1b[1m", "\x1b[0m"
_INDENT = 12
_NAMED, _PLACES = 8, 3  # of archetypes and endings, of findings
_BARS = 20  # of archetypes and endings on the page
_SERIOUS = ("refused", "left out of training", "leaks between splits")  # sessions are lost, or held-out data is not


class Shown(NamedTuple):
    """A session for people: its id; archetype, file and line; tokens, trained tokens; the runs of each example."""

    name: str
    origin: str
    tokens: int
    trained: int
    examples: list[list[Run]]


def show(tok: Tokenizer, session: Session, examples: Sequence[Example]) -> Shown:
    """Return a session with its mask."""
    origin = "  ".join(text for text in (session.archetype, session.source) if text)
    trained = sum(end - start for example in examples for start, end in example.spans)
    tokens = sum(len(example.input_ids) for example in examples)
    return Shown(session.id or "(no id)", origin, tokens, trained, [runs(tok, example) for example in examples])


def inspection_text(report: Mapping[str, Any], shown: Sequence[Shown], *, colour: bool, width: int = 100) -> str:
    """Return an inspection as lines.

    Args:
        report: the JSON values that `inspect.run` prints.
        shown: the sessions to show in full.
        colour: whether the reader shows colours.
        width: columns to fill; lines break between words only.
    """
    out: list[str] = []
    for item in shown:
        out.append(_title(f"=== {item.name}  {item.origin}", colour=colour))
        for n, example in enumerate(item.examples, 1):
            out += [f"--- example {n} of {len(item.examples)}"] * (len(item.examples) > 1)
            out.append(preview(example, colour=colour).rstrip("\n"))
        out.append("")
    if shown:
        trained, masked = (preview([Run("like this", kind, 0, 1)], colour=colour) for kind in ("trained", "masked"))
        more = f", masked by its record: {masked}" if report["masked_replies"]["count"] else ""
        out += [f"trained: {trained}{more}, everything else is context", ""]
    facts = _facts(report) | {name: _counts(report[name]) for name in ("splits", "archetypes", "terminals")}
    facts["length"] = ", ".join(f"{k} {v:,}" for k, v in report["example_length"].items()) or "no example"
    sections = [("", [f"{name:<{_INDENT}}{text}" for name, text in facts.items()], _INDENT)]
    for kind, tallies in _findings(report).items():
        found = [f"{tally['count']:>6,}  {name}: {'; '.join(tally['places'][:_PLACES])}" for name, tally in tallies]
        sections.append((kind, found, 8))
    if report["findings"]:
        sections.append(("the template", [f"  {text}" for text in report["findings"]], 2))
    if endpoint := report["endpoint"]:
        found = [_verdict(endpoint), *endpoint["causes"], *map(_difference, endpoint["differences"])]
        name = f"the endpoint {endpoint['url']}, model {endpoint['model']}"
        sections.append((name, [f"  {text}" for text in found], 4))
    for name, texts, indent in sections:
        out += ["", _title(name, colour=colour)] if name else []
        for text in texts:  # what is longer than a line (a path) stands on one of its own
            how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
            out += textwrap.wrap(_one_line(text).rstrip(), width, subsequent_indent=" " * indent, **how)
    return "".join(f"{line}\n" for line in out)


def _title(text: str, *, colour: bool) -> str:
    return f"{_TITLE}{_one_line(text)}{_OFF}" if colour else _one_line(text)


def inspection_page(report: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """Return the same as a page of HTML that needs nothing else, for sharing; see `inspection_text`."""
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
        facts=_facts(report),
        named=_BARS,
        sections=_findings(report),
        serious=_SERIOUS,
        verdict=_verdict(endpoint) if endpoint else "",
        differences=[_difference(d) for d in endpoint["differences"]] if endpoint else [],
    )


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
    over, number = report["over_max_length"], {name: f"{n:,}" for name, n in report.items() if isinstance(n, int)}
    return {
        "sessions": f"{number['rendered']} rendered of {number['sessions']} selected of {number['read']} read",
        "examples": f"{number['examples']}, {report['split_sessions']['count']:,} sessions split",
        "tokens": f"{number['tokens']}, {number['trained_tokens']} trained ({report['trained_share']:.1%})",
        "commands": f"{number['commands']} trained, {report['masked_replies']['count']:,} masked",
        "too long": f"{over['count']:,} examples over --max-length {over['max_length']:,}",
    }


def _findings(report: Mapping[str, Any]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """By kind, what each is called, how often and where it was found; the kinds of which there are any."""
    kinds: dict[str, Iterable[tuple[str, Mapping[str, Any]]]] = {
        "refused": report["refusals"].items(),
        "dropped while reading": report["dropped"].items(),
        "left out of training": [("over --max-length", report["over_max_length"])],
        "leaks between splits": ((k, {"count": len(names), "places": names}) for k, names in report["leaks"].items()),
        "duplicates": [("sessions seen before", report["duplicates"])],
        "keys that are not read": ((f"{key!r} on a turn", tally) for key, tally in report["unread_keys"].items()),
        "masked replies, kept as context": [("train: false or weight: 0", report["masked_replies"])],
        "text of control tokens": ((f"{c['token']} in {c['where']}", c) for c in report["control_token_text"]),
        "tokens across the border of prompt and reply": ((repr(m["token"]), m) for m in report["border_merges"]),
        "split into several examples": [("sessions", report["split_sessions"])],
    }
    found = {kind: [(name, t) for name, t in tallies if t["count"]] for kind, tallies in kinds.items()}
    return {kind: tallies for kind, tallies in found.items() if tallies}


def _verdict(comparison: Mapping[str, Any]) -> str:
    """In one line how an endpoint's prompts compare."""
    same = comparison["turns"] - len(comparison["differences"])
    unit = "token by token" if comparison["exact"] else "by the number of tokens"
    left_out = f", {comparison['too_long']} longer than its context left out" if comparison["too_long"] else ""
    return f"{same} of {comparison['turns']} turns are served as trained, {unit}{left_out} ({comparison['route']})"


def _difference(d: Mapping[str, Any]) -> str:
    """In one line how a turn's prompt at an endpoint differs from the trained one."""
    where = f"{d['session']}, turn {d['turn']}"
    if d["refusal"]:
        return f"{where}: the server refuses the messages: {d['refusal']}"
    lengths = f"{d['trained_length']} tokens trained, {d['served_length']} served"
    if d["position"] is None:
        return f"{where}: {lengths}"
    trained, served = (repr(d[k]) if d[k] else "its end" for k in ("trained", "served"))
    return f"{where}: token {d['position']} trained {trained}, served {served}, behind {d['before']!r} ({lengths})"


def _counts(values: Mapping[str, int]) -> str:
    """Counts as one line, the largest first, of many only the first."""
    largest = sorted(values.items(), key=lambda item: -item[1])
    more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
    return _one_line(", ".join(f"{name} {n:,}" for name, n in largest[:_NAMED]) + more) or "none"


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "⏎")
