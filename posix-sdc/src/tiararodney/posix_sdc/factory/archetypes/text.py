"""Text: which lines of a file, how many, and in which order."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.filters import Filter, Lines, Values, author, one_number
from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Request,
    Unsuitable,
    Work,
    check_by_form,
    columns,
    source_untouched,
    starting_file,
    text_file,
    untouched,
    word_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

_FEW = 3  # lines that a choice can be made among


def own_lines(low: int = 4, high: int = 8) -> Callable[[Draw], tuple[Lines, Values]]:
    """Return a maker of lines of one noun and one number each, without parameters."""
    return lambda d: (word_lines(d, low, high), {})


def tagged(draw: Draw) -> tuple[Lines, Values]:
    """Return lines of which some hold a word, and the word."""
    wanted, *others = draw.nouns(draw.number(3, 4))
    tags = [wanted] * draw.number(2, 3) + [draw.pick(others) for _ in range(draw.number(2, 4))]
    draw.rng.shuffle(tags)
    return [f"{name} {tag}" for name, tag in zip(draw.nouns(len(tags)), tags, strict=True)], {"word": wanted}


def _some_word(draw: Draw, lines: Sequence[str]) -> Values | None:
    """Choose a word that some of the lines hold, and not all."""
    words = sorted({w for line in lines for w in re.findall(r"[a-z]{4,}", line)})
    good = [w for w in words if 0 < sum(w in line for line in lines) < len(lines)]
    return {"word": draw.pick(good)} if good else None


def _with(lines: Sequence[str], v: Values) -> Lines:
    return [line for line in lines if v["word"] in line]


def _without(lines: Sequence[str], v: Values) -> Lines:
    return [line for line in lines if v["word"] not in line]


def _wordy(_: Draw, lines: Sequence[str]) -> Values | None:
    # Else counting words instead of lines would be right by chance.
    return {} if sum(len(line.split()) for line in lines) != len(lines) else None


def _own_top(draw: Draw) -> tuple[Lines, Values]:
    return word_lines(draw, 6, 9), _n(draw.number(2, 4))


def _n(n: int) -> Values:
    return {"n": n, "more": n + 1}


def _part(draw: Draw, lines: Sequence[str]) -> Values | None:
    if len(lines) <= _FEW:
        return None
    n = draw.number(2, min(4, len(lines) - 2))
    return _n(n) if list(lines[:n]) != list(lines[-n:]) else None


def _own_range(draw: Draw) -> tuple[Lines, Values]:
    first = draw.number(2, 4)
    return word_lines(draw, 7, 10), {"a": first, "b": first + draw.number(1, 2)}


def _range(draw: Draw, lines: Sequence[str]) -> Values | None:
    if len(lines) <= _FEW or len(set(lines)) < len(lines):
        return None
    first = draw.number(2, len(lines) - 2)
    return {"a": first, "b": first + 1}


def _own_headed(draw: Draw) -> tuple[Lines, Values]:
    return ["name count", *word_lines(draw, 4, 7)], {}


def _differing_ends(_: Draw, lines: Sequence[str]) -> Values | None:
    return {} if len(lines) > 1 and lines[0] != lines[-1] else None


def _order(*, numeric: bool, reverse: bool) -> Values:
    flags = " -" + ("n" if numeric else "") + ("r" if reverse else "") if numeric or reverse else ""
    return {
        "numeric": numeric,
        "reverse": reverse,
        "flags": flags,
        "wrong": ("" if reverse else " -r") + (" -n" if numeric else ""),
        "how": ("numerically" if numeric else "alphabetically") + (", in reverse" if reverse else ""),
    }


def _sorted(lines: Sequence[str], v: Values) -> Lines:
    return sorted(lines, key=int if v["numeric"] else None, reverse=v["reverse"])


def _own_unsorted(draw: Draw) -> tuple[Lines, Values]:
    numeric = draw.chance(0.4)
    reverse = draw.chance(0.35)
    lines = [str(n) for n in draw.numbers(draw.number(4, 6), 2, 400)] if numeric else draw.nouns(draw.number(4, 6))
    v = _order(numeric=numeric, reverse=reverse)
    return (lines[1:] + lines[:1] if _sorted(lines, v) == lines else lines), v


def _unsorted(draw: Draw, lines: Sequence[str]) -> Values | None:
    v = _order(numeric=all(re.fullmatch(r"\d+", line) for line in lines), reverse=draw.chance(0.35))
    opposite = _sorted(lines, _order(numeric=v["numeric"], reverse=not v["reverse"]))
    return v if len(lines) > 1 and _sorted(lines, v) not in (list(lines), opposite) else None


def _own_doubled(draw: Draw) -> tuple[Lines, Values]:
    words = draw.nouns(draw.number(3, 4))
    lines = [*words, *draw.rng.sample(words, 2)]
    draw.rng.shuffle(lines)
    return lines, {}


def _doubled(_: Draw, lines: Sequence[str]) -> Values | None:
    return {} if 1 < len(set(lines)) < len(lines) else None


def _lopsided(_: Draw, lines: Sequence[str]) -> Values | None:
    backward = list(lines[::-1])
    return {} if len(lines) > 1 and backward not in (list(lines), [line[::-1] for line in lines]) else None


_COUNT = Filter(
    (
        "Count the lines of {source} and write the number to {out}",
        "How many (lines|rows) has {source}? Put the number into {out}.",
        "{out} (has to|ought to|will) contain the number of lines in {source}.",
        "Write the line count of {source} to {out}.",
        "We (need|want) the number of lines of {source}(, in a file {out}| in {out}|, as {out})",
    ),
    (
        "wc -l < {source} > {out}",
        "cat {source} | wc -l > {out}",
        "awk 'END {{ print NR }}' {source} > {out}",
        "sed -n '$=' {source} > {out}",
    ),
    ("wc -l {source} > {out}", "wc -w < {source} > {out}", "wc -l < {source} | sed 's/$/1/' > {out}"),
    own_lines(),
    lambda lines, _: [str(len(lines))],
    _wordy,
    reads=("txt", "list", "csv"),
    check=one_number,
    passes_on=False,
    open_ended=lambda lines, _: [str(len(lines) - 1)],  # what wc counts
)

_MATCHING = Filter(
    (
        "Write the lines of {source} that contain {word} to {out}",
        "(Find|Collect) (every line|the lines|all lines) with {word} in {source} and save them in {out}.",
        "{out} (needs|gets|receives) the lines of {source} with the word {word}.",
        "Pick the lines with {word} out of {source}; they go to {out}.",
        "Lines of {source} that mention {word} belong in {out}",
    ),
    ("grep {word} {source} > {out}", "sed -n '/{word}/p' {source} > {out}", "awk '/{word}/' {source} > {out}"),
    ("grep -v {word} {source} > {out}", "grep -c {word} {source} > {out}", "cat {source} > {out}"),
    tagged,
    _with,
    _some_word,
)

_TALLY = Filter(
    (
        "Count the lines of {source} that contain {word} and write the number to {out}",
        "In how many (lines|rows) of {source} does {word} occur? Put the number into {out}.",
        "{out} (must|should) contain the number of lines with {word} in {source}.",
        "(Write|Note) (in|to) {out} (in how many lines|in what number of lines) of {source} {word} occurs.",
    ),
    ("grep -c {word} {source} > {out}", "grep {word} {source} | wc -l > {out}"),
    (
        "grep {word} {source} > {out}",
        "wc -l < {source} > {out}",
        "grep -vc {word} {source} | sed s/$/0/ > {out}",
    ),
    tagged,
    lambda lines, v: [str(len(_with(lines, v)))],
    _some_word,
    writes=("txt", "num"),
    check=one_number,
    passes_on=False,
)

_FIRST = Filter(
    (
        "Write the first {n} lines of {source} to {out}",
        "{out} (has to|ought to) hold the first {n} lines of {source}.",
        "Take the first {n} lines of {source} and save them as {out}.",
        "Save the {n} lines at the top of {source} in {out}.",
    ),
    ("head -n {n} {source} > {out}", "sed {n}q {source} > {out}", "head -{n} {source} > {out}"),
    ("tail -n {n} {source} > {out}", "head -n {more} {source} > {out}", "cat {source} > {out}"),
    _own_top,
    lambda lines, v: list(lines[: v["n"]]),
    _part,
    reads=("txt", "list", "log"),
)

_LAST = Filter(
    (
        "Write the last {n} lines of {source} to {out}",
        "{out} (must|should|shall) hold the last {n} lines of {source}.",
        "Take the last {n} lines of {source} and save them as {out}.",
        "Save the {n} lines at the end of {source} in {out}.",
    ),
    ("tail -n {n} {source} > {out}", "tail -{n} {source} > {out}"),
    ("head -n {n} {source} > {out}", "tail -n {more} {source} > {out}", "cat {source} > {out}"),
    _own_top,
    lambda lines, v: list(lines[-v["n"] :]),
    _part,
    reads=("txt", "list", "log"),
)

_RANGE = Filter(
    (
        "Write the lines {a} to {b} of {source} to {out}",
        "{out} (has to|ought to|will) contain {source} from line {a} to line {b}, both included.",
        "Copy lines {a} through {b} of {source} into {out}.",
        "From {source} we need the lines {a} to {b}; save them as {out}",
    ),
    (
        "sed -n '{a},{b}p' {source} > {out}",
        "awk 'NR >= {a} && NR <= {b}' {source} > {out}",
    ),
    ("head -n {b} {source} > {out}", "sed -n '{a}p' {source} > {out}", "sed '{a},{b}!p' {source} > {out}"),
    _own_range,
    lambda lines, v: list(lines[v["a"] - 1 : v["b"]]),
    _range,
    reads=("txt", "list", "log"),
)

_HEADLESS = Filter(
    (
        "Write {source} without its header line to {out}",
        "{out} (needs|gets|receives) all of {source} but the first line.",
        "Drop the first line of {source} and save the rest in {out}.",
        "Save everything after the first line of {source} as {out}.",
    ),
    ("sed 1d {source} > {out}", "tail -n +2 {source} > {out}"),
    ("head -n 1 {source} > {out}", "sed 2d {source} > {out}", "cat {source} > {out}"),
    _own_headed,
    lambda lines, _: list(lines[1:]),
    reads=("csv", "txt", "tab"),
    writes=("csv", "txt", "out"),
)

_BOTTOM = Filter(
    (
        "Write the last line of {source} to {out}",
        "{out} (must|should) contain the last line of {source}.",
        "(Take|Get) (the last line of|the line that ends|the line at the end of) {source} and save it as {out}.",
        "Save (the bottom line|the closing line|the lowest line) of {source} in {out}.",
    ),
    ("tail -n 1 {source} > {out}", "sed -n '$p' {source} > {out}"),
    ("head -n 1 {source} > {out}", "tail -n 2 {source} > {out}", "cat {source} > {out}"),
    own_lines(4, 7),
    lambda lines, _: [lines[-1]],
    _differing_ends,
    reads=("txt", "list", "log"),
    passes_on=False,
)

_WITHOUT = Filter(
    (
        "Write the lines of {source} that do not contain {word} to {out}",
        "{out} (has to|ought to) hold {source} without the lines that mention {word}.",
        "Leave out every line with {word}: the other lines of {source} go to {out}.",
        "Save all lines of {source} except those with {word} in {out}.",
    ),
    ("grep -v {word} {source} > {out}", "sed '/{word}/d' {source} > {out}"),
    (
        "grep {word} {source} > {out}",
        "grep -v {word} {source} | sort -r | sed 1p > {out}",
        "cat {source} > {out}",
    ),
    tagged,
    _without,
    _some_word,
)

_SORT = Filter(
    (
        "Sort {source} {how} into {out}",
        "{out} (must|should|shall) hold the lines of {source}, sorted {how}.",
        "Sort the lines of {source} {how} and save the result as {out}.",
        "Write {source}, sorted {how}, to {out}.",
    ),
    ("sort{flags} {source} > {out}", "sort{flags} -o {out} {source}", "cat {source} | sort{flags} > {out}"),
    ("cat {source} > {out}", "sort{wrong} {source} > {out}", "sort{flags} {source} | sed 1d > {out}"),
    _own_unsorted,
    _sorted,
    _unsorted,
)

_UNIQUE = Filter(
    (
        "Write the unique lines of {source}, sorted, to {out}",
        "Sort {source} into {out}, each line only once.",
        "{out} (has to|ought to|will) contain {source} sorted and without duplicates.",
    ),
    ("sort -u {source} > {out}", "sort {source} | uniq > {out}"),
    ("sort {source} > {out}", "sort -ru {source} > {out}", "cat {source} > {out}"),
    _own_doubled,
    lambda lines, _: sorted(set(lines)),
    _doubled,
)

_REVERSE = Filter(
    (
        "Write the lines of {source} in reverse order to {out}",
        "Reverse (the order of the lines of|the lines of|the line order of) {source} into {out}.",
        (
            "{out} (needs|gets|receives) {source} upside down: (the bottom line comes on top|the last "
            "line leads|what was last comes first)."
        ),
    ),
    ("tac {source} > {out}", "sed '1!G;h;$!d' {source} > {out}"),
    ("cat {source} > {out}", "tac {source} | sed 1d > {out}", "rev {source} > {out}"),
    own_lines(3, 5),
    lambda lines, _: list(lines[::-1]),
    _lopsided,
    open_ended=lambda lines, _: [lines[-1] + lines[-2], *lines[-3::-1]],  # what tac makes of it
)


def paste(request: Request) -> Work:
    """Put two files side by side."""
    d = request.draw
    n = len(request.source.lines) if request.source else d.number(2, 4)
    a, given = starting_file(request, text_file(d.file("txt", "col"), d.nouns(n)))
    names, counts = a.content.splitlines(), [str(d.number(1, 99)) for _ in range(n)]
    if n < 2 or any(" ".join(name.split()) != name for name in names):  # noqa: PLR2004 - a column has two lines
        raise Unsuitable
    left, right, out = a.path, d.file("txt", "col"), d.file("tab", "txt")
    text = d.wording(
        [
            f"Paste {left} and {right} side by side into {out}",
            f"{out} (must|should) contain {left} and {right} as two columns.",
            f"Write {left} and {right} next to each other to {out}, as paste does.",
        ]
    )
    b = text_file(right, counts)

    def table(lines: Sequence[str]) -> Check:
        return columns(out, [[cell for cell in row if cell] for row in zip_longest(lines, counts)])

    return Work(
        text,
        (f"paste {left} {right} > {out}",),
        (
            check_by_form(request.source, table(names), lambda form: table(form.lines)),
            source_untouched(request.source, a),
            untouched(b),
        ),
        (*given, b),
        (left, right),
        (out,),
        ((f"cat {left} {right} > {out}",), (f"paste {right} {left} > {out}",), (f"paste {left} > {out}",)),
        (f"cat {out}",),
    )


TABLE: dict[str, Filter] = {
    "text_count": _COUNT,
    "text_matching": _MATCHING,
    "text_tally": _TALLY,
    "text_first": _FIRST,
    "text_last": _LAST,
    "text_range": _RANGE,
    "text_headless": _HEADLESS,
    "text_bottom": _BOTTOM,
    "text_without": _WITHOUT,
    "text_sort": _SORT,
    "text_unique": _UNIQUE,
    "text_reverse": _REVERSE,
}
AUTHORS: dict[str, Author] = {name: author(row) for name, row in TABLE.items()} | {"text_paste": paste}
