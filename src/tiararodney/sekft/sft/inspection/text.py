"""The inspection as text for a terminal: the mask in colour, the figures, what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.preview import Run, preview, printable
from tiararodney.sekft.sft.inspection.findings import breaks, findings, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tiararodney.sekft.sft.inspection.inspect import Shown

_BARS = " ▁▂▃▄▅▆▇█"
_TITLE, _OFF = "\x1b[1m", "\x1b[0m"
_WIDTH = 24  # cells of the bar of the trained share
_NAMED = 8
_PLACES = 3


def inspection_text(report: Mapping[str, Any], shown: Sequence[Shown], *, colour: bool) -> str:
    """Return an inspection as lines.

    Args:
        report: what `inspect.run` found.
        shown: the sessions to show in full.
        colour: whether the reader shows colours.
    """

    def title(text: str) -> str:
        return f"{_TITLE}{_one_line(text)}{_OFF}" if colour else _one_line(text)

    lines = []
    for item in shown:
        lines += [title(f"=== {item.title}"), *_examples(item, colour=colour), ""]
    if shown:
        example = preview([Run("like this", trained=True, start=0, end=1)], colour=colour)
        lines += [f"trained: {example}, everything else is context", ""]
    lines += [f"{name:<12}{text}".rstrip() for name, text in facts(report).items()]
    for kind, found in findings(report):
        lines += ["", title(kind)]
        lines += [_one_line(f"{f.count:>6,}  {f.name}: {'; '.join(f.places[:_PLACES])}") for f in found]
    if report["findings"]:
        lines += ["", title("the template"), *(_one_line(f"  {text}") for text in report["findings"])]
    if endpoint := report["endpoint"]:
        lines += ["", title(f"the endpoint {endpoint['url']}, model {endpoint['model']}"), f"  {verdict(endpoint)}"]
        lines += [_one_line(f"  {text}") for text in [*endpoint["causes"], *breaks(endpoint)]]
    return "".join(f"{line}\n" for line in lines)


def _examples(item: Shown, *, colour: bool) -> Iterator[str]:
    for n, example in enumerate(item.examples, 1):
        if len(item.examples) > 1:
            yield f"--- example {n} of {len(item.examples)}"
        yield preview(example, colour=colour).rstrip("\n")


def facts(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures as short texts, by name."""
    share = report["trained_share"]
    return {
        "sessions": f"{report['rendered']:,} rendered of {report['sessions']:,} kept of {report['read']:,} read",
        "examples": f"{report['examples']:,}, {report['split_sessions']['count']:,} sessions split",
        "tokens": f"{report['tokens']:,}, {report['trained_tokens']:,} trained ({share:.1%})  {_share(share)}",
        "length": ", ".join(f"{k} {v:,}" for k, v in report["example_length"].items()) or "no example",
        "": _histogram(report["length_histogram"]),
        "commands": f"{report['commands']:,}, endings {counts(report['terminals'])}",
        "archetypes": counts(report["archetypes"]),
        "too long": f"{report['over_max_length']['count']:,} examples over --max-length "
        f"{report['over_max_length']['max_length']:,}",
    }


def counts(values: Mapping[str, int]) -> str:
    """Return counts as one line, the largest first, of many only the first."""
    largest = sorted(values.items(), key=lambda item: -item[1])
    more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
    return _one_line(", ".join(f"{name} {n:,}" for name, n in largest[:_NAMED]) + more) or "none"


def _share(share: float) -> str:
    full = round(share * _WIDTH)
    return "█" * full + "░" * (_WIDTH - full)


def _histogram(bins: Sequence[Mapping[str, int]]) -> str:
    if not bins:
        return ""
    top = max(b["examples"] for b in bins)
    bars = "".join(_BARS[-(-b["examples"] * (len(_BARS) - 1) // top)] for b in bins)
    return f"{bars}  {bins[0]['from']:,} to {bins[-1]['to']:,} tokens"


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "⏎")
