"""The inspection as text for a terminal: the mask in colour, the figures, what was found."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.preview import Run, preview, printable
from tiararodney.sekft.sft.inspection.report import differences, figures, sections, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tiararodney.sekft.sft.inspection.report import Shown

_BARS = " ▁▂▃▄▅▆▇█"
_TITLE, _OFF = "\x1b[1m", "\x1b[0m"
_SHARE_WIDTH = 24  # cells of the bar of the trained share
_INDENT = 12
_NAMED = 8
_PLACES = 3


def inspection_text(report: Mapping[str, Any], shown: Sequence[Shown], *, colour: bool, width: int = 100) -> str:
    """Return an inspection as lines.

    Args:
        report: the JSON values that `inspect.run` prints.
        shown: the sessions to show in full.
        colour: whether the reader shows colours.
        width: columns to fill; lines break between words only.
    """

    def title(text: str) -> str:
        return f"{_TITLE}{_one_line(text)}{_OFF}" if colour else _one_line(text)

    lines = []
    for item in shown:
        lines += [title(f"=== {item.name}  {item.origin}"), *_examples(item, colour=colour), ""]
    if shown:
        lines += [*_legend(report, colour=colour), ""]
    for name, text in _facts(report).items():
        lines += _wrapped(f"{name:<{_INDENT}}{text}", _INDENT, width)
    lines += _histogram(report["length_histogram"])
    for section in sections(report):
        lines += ["", title(section.title)]
        for f in section.findings:
            lines += _wrapped(f"{f.count:>6,}  {f.name}: {'; '.join(f.places[:_PLACES])}", 8, width)
    if report["findings"]:
        lines += ["", title("the template")]
        lines += [line for text in report["findings"] for line in _wrapped(f"  {text}", 2, width)]
    if endpoint := report["endpoint"]:
        lines += ["", title(f"the endpoint {endpoint['url']}, model {endpoint['model']}"), f"  {verdict(endpoint)}"]
        found = [*endpoint["causes"], *differences(endpoint)]
        lines += [line for text in found for line in _wrapped(f"  {text}", 4, width)]
    return "".join(f"{line}\n" for line in lines)


def _examples(item: Shown, *, colour: bool) -> Iterator[str]:
    for n, example in enumerate(item.examples, 1):
        if len(item.examples) > 1:
            yield f"--- example {n} of {len(item.examples)}"
        yield preview(example, colour=colour).rstrip("\n")


def _legend(report: Mapping[str, Any], *, colour: bool) -> list[str]:
    trained, masked = (preview([Run("like this", kind, 0, 1)], colour=colour) for kind in ("trained", "masked"))
    out = [f"trained: {trained}, everything else is context"]
    if report["masked_replies"]["count"]:
        out[0] = f"trained: {trained}, masked by its record: {masked}, everything else is context"
    return out


def _facts(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures as lines, by name."""
    full = round(report["trained_share"] * _SHARE_WIDTH)
    found = {name: f"{number} {note}" for name, number, note in figures(report)}
    found["tokens"] += "  " + "█" * full + "░" * (_SHARE_WIDTH - full)
    found |= {name: _counts(report[name]) for name in ("splits", "archetypes", "terminals")}
    return found | {"length": ", ".join(f"{k} {v:,}" for k, v in report["example_length"].items()) or "no example"}


def _counts(values: Mapping[str, int]) -> str:
    """Return counts as one line, the largest first, of many only the first."""
    largest = sorted(values.items(), key=lambda item: -item[1])
    more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
    return _one_line(", ".join(f"{name} {n:,}" for name, n in largest[:_NAMED]) + more) or "none"


def _histogram(bins: Sequence[Mapping[str, int]]) -> list[str]:
    if not bins:
        return []
    top = max(b["examples"] for b in bins)
    bars = "".join(_BARS[-(-b["examples"] * (len(_BARS) - 1) // top)] for b in bins)
    return [f"{'':<{_INDENT}}{bars}  {bins[0]['from']:,} to {bins[-1]['to']:,} tokens"]


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    """Break a text between words; what is longer than a line (a path) stands on one of its own."""
    # Single spaces are where a line may break; the columns in front are made of several.
    return textwrap.wrap(
        _one_line(text).rstrip(),
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "⏎")
