"""Convert: tables and lists from one form to another."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.filters import Filter, Lines, Values, author
from tiararodney.posix_sdc.factory.checks import Author, Check, q, word_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

SEPARATORS = {"comma": ",", "colon": ":", "semicolon": ";"}
_COLUMNS = 3


def _rows(draw: Draw) -> list[list[str]]:
    return [[draw.noun(), str(draw.number(1, 99)), draw.noun()] for _ in range(draw.number(3, 4))]


def _own_column(draw: Draw) -> tuple[Lines, Values]:
    n = draw.number(1, _COLUMNS)
    return [",".join(r) for r in _rows(draw)], _nth(n)


def _nth(n: int) -> Values:
    return {"n": n, "other": n % _COLUMNS + 1}


def _table(draw: Draw, lines: Sequence[str]) -> Values | None:
    """Choose a column of a table of words and numbers."""
    fits = len(lines) > 1 and all(re.fullmatch(r"[a-z]+,\d+,[a-z]+", line) for line in lines)
    return _nth(draw.number(1, _COLUMNS)) if fits else None


def _own_separated(draw: Draw) -> tuple[Lines, Values]:
    old, new = draw.rng.sample(sorted(SEPARATORS), 2)
    return [SEPARATORS[old].join(r) for r in _rows(draw)], _separators(old, new)


def _separators(old: str, new: str) -> Values:
    return {"old": old, "new": new, "a": SEPARATORS[old], "b": SEPARATORS[new]}


def _separated(draw: Draw, lines: Sequence[str]) -> Values | None:
    """Choose a separator that comes twice in some line: replacing the first one only is a near miss."""
    found = [name for name, sign in SEPARATORS.items() if any(line.count(sign) > 1 for line in lines)]
    if not found:
        return None
    old = draw.pick(found)
    return _separators(old, draw.pick([name for name in SEPARATORS if name != old]))


def _own_pairs(draw: Draw) -> tuple[Lines, Values]:
    return word_lines(draw, 3, 6), {}


def _pairs(_: Draw, lines: Sequence[str]) -> Values | None:
    fields = [line.split(" ") for line in lines]
    fits = len(lines) > 1 and all(len(f) == 2 and f[0] != f[1] for f in fields)  # noqa: PLR2004 - pairs
    return {} if fits else None


def _own_list(draw: Draw) -> tuple[Lines, Values]:
    return draw.nouns(draw.number(3, 6)), {}


def _list(_: Draw, lines: Sequence[str]) -> Values | None:
    return {} if len(lines) > 1 and not any("," in line for line in lines) else None


def _own_row(draw: Draw) -> tuple[Lines, Values]:
    return [",".join(draw.nouns(draw.number(4, 6)))], {}


def _row(_: Draw, lines: Sequence[str]) -> Values | None:
    return {} if len(lines) == 1 and lines[0].count(",") > 1 and " " not in lines[0] else None


def _own_settings(draw: Draw) -> tuple[Lines, Values]:
    return [f"{draw.noun()}={draw.number(1, 99)}" for _ in range(draw.number(3, 5))], {}


def _encoded(lines: Sequence[str]) -> Lines:
    text = base64.b64encode("".join(f"{line}\n" for line in lines).encode()).decode()
    return [text[i : i + 76] for i in range(0, len(text), 76)]


def _holds_base64(path: str, lines: Sequence[str]) -> Check:
    """Take it broken into lines anywhere, or not at all."""
    text = base64.b64decode("".join(lines)).decode().rstrip("\n")
    test = f'[ -f {path} ] && [ "$(base64 -d < {path})" = {q(text)} ]'
    return Check(f"{path} is the right base64", test, (f"base64 < {path} > {path}.new; mv {path}.new {path}",))


_COLUMN = Filter(
    (
        "Write column {n} of {source} to {out}",
        "{out} (has to|ought to) hold column {n} of {source}.",
        "Cut column {n} out of {source} and save it as {out}. The columns are separated by commas.",
    ),
    ("cut -d, -f{n} {source} > {out}", "awk -F, '{{ print ${n} }}' {source} > {out}"),
    ("cut -d, -f{other} {source} > {out}", "cut -c{n} {source} > {out}", "cat {source} > {out}"),
    _own_column,
    lambda lines, v: [line.split(",")[v["n"] - 1] for line in lines],
    _table,
    reads=("csv",),
    writes=("txt", "col"),
)

_DELIMITER = Filter(
    (
        "Write {source} to {out} with every {old} turned into a {new}",
        "{out} (must|should|shall) hold {source} with a {new} in place of each {old}.",
        "Turn every {old} of {source} into a {new} and save the result as {out}.",
    ),
    (
        "tr '{a}' '{b}' < {source} > {out}",
        "sed 's/{a}/{b}/g' {source} > {out}",
        "cat {source} | tr '{a}' '{b}' > {out}",
    ),
    ("cat {source} > {out}", "tr -d '{a}' < {source} > {out}", "sed 's/{a}/{b}/' {source} > {out}"),
    _own_separated,
    lambda lines, v: [line.replace(v["a"], v["b"]) for line in lines],
    _separated,
    reads=("csv", "tab", "dat"),
    writes=("csv", "dat", "out"),
)

_SWAP = Filter(
    (
        "Write {source} to {out} with its two words a line swapped",
        (
            "{out} (has to|ought to|will) contain {source} (with|after putting) the second word of each "
            "line (ahead of|before|in front of) the (first|other)."
        ),
        "Swap the two columns of {source} (a blank is between them) and save the result as {out}.",
    ),
    ("awk '{{ print $2, $1 }}' {source} > {out}", "sed 's/\\([^ ]*\\) \\(.*\\)/\\2 \\1/' {source} > {out}"),
    ("cat {source} > {out}", "awk '{{ print $2 }}' {source} > {out}", "rev {source} > {out}"),
    _own_pairs,
    lambda lines, _: [" ".join(reversed(line.split(" "))) for line in lines],
    _pairs,
)

_TO_CSV = Filter(
    (
        (
            "Turn {source} into (comma separated values|values with commas between), (written to|saved "
            "in|as) {out}; (blanks separate them|they have blanks between them) now"
        ),
        "{out} (needs|gets|receives) {source} as a table with commas where {source} has blanks.",
        (
            "(Convert|Change) {source} from columns (with|parted by) a blank to columns (with|parted by) "
            "a comma, (into|as) {out}."
        ),
    ),
    ("tr ' ' , < {source} > {out}", "sed 's/ /,/g' {source} > {out}"),
    ("cat {source} > {out}", "tr -d ' ' < {source} > {out}", "tr '\\n' , < {source} > {out}"),
    _own_pairs,
    lambda lines, _: [line.replace(" ", ",") for line in lines],
    _pairs,
    writes=("csv",),
)

_ONE_LINE = Filter(
    (
        "Join the lines of {source} into one line with commas between them, in {out}",
        "{out} (must|should) contain the lines of {source} as one line, separated by commas.",
        (
            "Write {source} to {out} as (a single|one long|just one) line: (a comma instead of each line break|commas "
            "replace the line breaks), (none at the end|none after the last word|but no comma last)."
        ),
    ),
    ("paste -sd, {source} > {out}", "sed ':a;N;$!ba;s/\\n/,/g' {source} > {out}"),
    ("cat {source} > {out}", "tr '\\n' , < {source} > {out}", "tr -d '\\n' < {source} > {out}"),
    _own_list,
    lambda lines, _: [",".join(lines)],
    _list,
)

_MANY_LINES = Filter(
    (
        "(Break|Split|Cut) (the one line|the single line|all) of {source} at its commas: one word a line, into {out}",
        "{out} (has to|ought to) hold the words of {source}, which has commas between them, one on each line.",
        "Write every comma separated word of {source} on a line of its own, to {out}.",
    ),
    ("tr , '\\n' < {source} > {out}", "sed 's/,/\\n/g' {source} > {out}"),
    ("cat {source} > {out}", "tr , ' ' < {source} > {out}", "tr -d , < {source} > {out}"),
    _own_row,
    lambda lines, _: lines[0].split(","),
    _row,
)

_ENCODE = Filter(
    (
        "Write {source}, encoded as base64, to {out}",
        "{out} (must|should|shall) hold the base64 of {source}.",
        "Encode {source} with base64 and save the result as {out}.",
    ),
    ("base64 {source} > {out}", "base64 < {source} > {out}"),
    ("cat {source} > {out}", "base64 {source} | base64 > {out}", "sed 1d {source} | base64 > {out}"),
    _own_pairs,
    lambda lines, _: _encoded(lines),
    lambda _, lines: {} if len(lines) > 1 else None,
    writes=("b64", "txt"),
    check=_holds_base64,
    passes_on=False,
)

_EXPORTS = Filter(
    (
        "Turn the settings of {source} into shell exports in {out}: each line after the word export",
        "{out} (has to|ought to|will) contain every line of {source} with 'export ' in front.",
        "Write {source} to {out} so that a shell can read it: export in front of each key=value.",
    ),
    ("sed 's/^/export /' {source} > {out}", "awk '{{ print \"export \" $0 }}' {source} > {out}"),
    ("cat {source} > {out}", "sed '1s/^/export /' {source} > {out}", "sed 's/=/ /' {source} > {out}"),
    _own_settings,
    lambda lines, _: [f"export {line}" for line in lines],
    lambda _, lines: {} if len(lines) > 1 and all(re.fullmatch(r"\w+=\w+", x) for x in lines) else None,
    reads=("conf", "env"),
    writes=("sh", "env"),
)

TABLE: dict[str, Filter] = {
    "convert_column": _COLUMN,
    "convert_delimiter": _DELIMITER,
    "convert_swap": _SWAP,
    "convert_csv": _TO_CSV,
    "convert_line": _ONE_LINE,
    "convert_lines": _MANY_LINES,
    "convert_base64": _ENCODE,
    "convert_exports": _EXPORTS,
}
AUTHORS: dict[str, Author] = {name: author(row) for name, row in TABLE.items()}
