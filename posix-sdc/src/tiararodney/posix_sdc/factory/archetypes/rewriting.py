"""Text: the words of a file, changed, numbered, added up or digested."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.filters import Filter, Lines, Values, author, one_number
from tiararodney.posix_sdc.factory.archetypes.shapes import edit
from tiararodney.posix_sdc.factory.archetypes.text import own_lines
from tiararodney.posix_sdc.factory.checks import Author, Check, Request, Work, holds, text_file, word_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw


def replace(request: Request) -> Work:
    """Replace a word in place."""
    d = request.draw
    source = d.file("txt", "list", "md")
    old, new, other = d.nouns(3)
    lines = [f"{noun} {d.pick((old, other))}" for noun in d.nouns(d.number(3, 5))]
    lines[d.number(0, len(lines) - 1)] = f"{d.noun()} {old}"
    text = d.wording(
        [
            f"Replace {old} with {new} in {source}",
            f"In {source} the word {old} has to become {new}.",
            f"Change every {old} in {source} to {new}.",
            f"{source} says {old}; it (should|must|has to|ought to) say {new} instead.",
        ]
    )
    given = text_file(source, lines)
    return edit(
        text,
        given,
        holds(source, [line.replace(f" {old}", f" {new}") for line in lines]),
        f"sed -i 's/{old}/{new}/g' {source}",
        near_misses=(f"sed -i 's/{new}/{old}/g' {source}", f"sed -i '/{old}/d' {source}", f"echo {new} > {source}"),
        verify=(f"cat {source}", f"grep {new} {source}"),
        ways=(f"sed -i s/{old}/{new}/ {source}", f'sed -i "s/{old}/{new}/g" {source}'),
    )


def _own_cased(draw: Draw) -> tuple[Lines, Values]:
    up = draw.chance(0.6)
    words = draw.nouns(draw.number(3, 5))
    return (words if up else [w.upper() for w in words]), _case(up)


def _case(up: bool) -> Values:
    names = ("upper", "a-z A-Z", "'[:lower:]' '[:upper:]'") if up else ("lower", "A-Z a-z", "'[:upper:]' '[:lower:]'")
    return {"up": up, "case": names[0], "sets": names[1], "classes": names[2]}


def _letters(draw: Draw, lines: Sequence[str]) -> Values | None:  # noqa: ARG001 - the signature of `suits`
    small = any(re.search("[a-z]", line) for line in lines)
    return _case(up=True) if small and len(lines) > 1 else None


def _prefix(draw: Draw, lines: Sequence[str]) -> Values | None:
    return {"mark": f"{draw.noun()}: "} if len(lines) > 1 else None


def _own_prefix(draw: Draw) -> tuple[Lines, Values]:
    return word_lines(draw, 3, 5), {"mark": f"{draw.noun()}: "}


def _own_words(draw: Draw) -> tuple[Lines, Values]:
    return [f"{draw.noun()} {draw.noun()} {draw.number(1, 99)}" for _ in range(draw.number(3, 5))], _field(
        draw.number(1, 3)
    )


def _field(n: int) -> Values:
    return {"n": n, "other": n % 3 + 1, "nth": ("first", "second", "third")[n - 1]}


def _words(draw: Draw, lines: Sequence[str]) -> Values | None:
    fields = [line.split(" ") for line in lines]
    if len(lines) < 2 or any(len(f) < 2 or not all(f) for f in fields):  # noqa: PLR2004 - two words a line
        return None
    n = draw.number(1, 2)
    return _field(n) if [f[n - 1] for f in fields] != [f[2 - n] for f in fields] else None


def _own_amounts(draw: Draw) -> tuple[Lines, Values]:
    return word_lines(draw, 4, 7), {}


def _amounts(_: Draw, lines: Sequence[str]) -> Values | None:
    fits = len(lines) > 1 and all(re.fullmatch(r"[a-z]+ \d+", line) for line in lines)
    return {} if fits and _total(lines) not in (len(lines), int(lines[0].split()[1])) else None


def _total(lines: Sequence[str]) -> int:
    return sum(int(line.split()[1]) for line in lines)


def _own_digest(draw: Draw) -> tuple[Lines, Values]:
    return word_lines(draw, 2, 4), _digest(draw, [])


def _digest(draw: Draw, lines: Sequence[str]) -> Values:  # noqa: ARG001 - the signature of `suits`
    program = draw.pick(("sha256sum", "md5sum"))
    return {
        "program": program,
        "kind": program[:-3],
        "wrong": "md5sum" if program == "sha256sum" else "sha256sum",
    }


def _digested(lines: Sequence[str], v: Values, end: str = "\n") -> Lines:
    content = "\n".join(lines) + end
    return [hashlib.new(v["kind"], content.encode(), usedforsecurity=False).hexdigest()]


def _holds_digest(path: str, lines: Sequence[str]) -> Check:
    """Take the digest by itself or in the line that a program prints it in."""
    one = f'[ -f {path} ] && [ "$(wc -l < {path})" -le 1 ] && grep -qiw {lines[0]} {path}'
    return Check(f"{path} has the right checksum", one, (f"sed -i 's/[0-9a-f][0-9a-f]*/0/' {path}",))


_UPPER = Filter(
    (
        "(Write|Copy) {source} (in {case} case|{case}-cased|with all letters {case}-cased) to {out}",
        "{out} (needs|gets|receives) (the text of|everything from|all of) {source} in {case} case.",
        "(Turn|Change) {source} (into|to) {case} case and save it as {out}.",
    ),
    ("tr {sets} < {source} > {out}", "tr {classes} < {source} > {out}", "cat {source} | tr {sets} > {out}"),
    ("cat {source} > {out}", "tr {sets} < {source} | sed 1d > {out}", "sed 1q {source} | tr {sets} > {out}"),
    _own_cased,
    lambda lines, v: [line.upper() if v["up"] else line.lower() for line in lines],
    _letters,
)

_PREFIX = Filter(
    (
        "Write {source} to {out} with '{mark}' in front of every line",
        "{out} (must|should) contain the lines of {source}, each (of them|one) (after|behind|preceded by) '{mark}'.",
        "Put '{mark}' at the beginning of every line of {source}; the result goes to {out}.",
    ),
    ("sed 's/^/{mark}/' {source} > {out}", "awk '{{ print \"{mark}\" $0 }}' {source} > {out}"),
    ("sed 's/$/{mark}/' {source} > {out}", "sed '1s/^/{mark}/' {source} > {out}", "cat {source} > {out}"),
    _own_prefix,
    lambda lines, v: [v["mark"] + line for line in lines],
    _prefix,
)

_WORD = Filter(
    (
        "Write the {nth} word of every line of {source} to {out}",
        (
            "{out} (has to|ought to) hold (the {nth} word of each line of {source}|each line's {nth} "
            "word from {source}), one a line."
        ),
        "(From|Out of) each line of {source} (take|we need) (the {nth} word|just word no. {n}); save these in {out}.",
    ),
    (
        "cut -d' ' -f{n} {source} > {out}",
        "awk '{{ print ${n} }}' {source} > {out}",
    ),
    ("cut -d' ' -f{other} {source} > {out}", "cut -c{n} {source} > {out}", "cat {source} > {out}"),
    _own_words,
    lambda lines, v: [line.split(" ")[v["n"] - 1] for line in lines],
    _words,
)

_NUMBERED = Filter(
    (
        "Number (the lines of|every line of) {source} into {out}: (the number, a colon, the line|number, colon, line)",
        "{out} (must|should|shall) hold {source} with '1:', '2:' and so on in front of the lines.",
        (
            "(Write|Copy) {source} to {out}, (each line|every line|all lines) (behind|after) (its "
            "number|a number) and a colon (1:, 2:, ...)."
        ),
    ),
    ("grep -n '' {source} > {out}", "awk '{{ print NR \":\" $0 }}' {source} > {out}"),
    ("nl {source} > {out}", "cat -n {source} > {out}", "sed 's/^/1:/' {source} > {out}"),
    own_lines(3, 6),
    lambda lines, _: [f"{i}:{line}" for i, line in enumerate(lines, 1)],
    lambda _, lines: {} if len(lines) > 1 else None,
)

_TOTAL = Filter(
    (
        (
            "(Add up|Sum) (the numbers in the second column of|the numbers that end the lines of|the "
            "second column of) {source} and write the sum to {out}"
        ),
        "{out} (has to|ought to|will) contain the total of the numbers in {source}.",
        "What do the numbers of {source} come to? Write the sum to {out}.",
    ),
    (
        "awk '{{ s += $2 }} END {{ print s }}' {source} > {out}",
        "awk '{{ sum = sum + $2 }} END {{ print sum }}' {source} > {out}",
    ),
    (
        "wc -l < {source} > {out}",
        "awk '{{ print $2 }}' {source} > {out}",
        "awk 'NR == 1 {{ print $2 }}' {source} > {out}",
    ),
    _own_amounts,
    lambda lines, _: [str(_total(lines))],
    _amounts,
    writes=("txt", "num", "sum"),
    check=one_number,
    passes_on=False,
)

_CHECKSUM = Filter(
    (
        "Write the {kind} sum of {source} to {out}",
        "Save the {kind} checksum of {source} in {out}.",
        "{out} (needs|gets|receives) what {program} says of {source}.",
    ),
    ("{program} {source} > {out}", "{program} < {source} > {out}"),
    ("{wrong} {source} > {out}", "{program} {out} > {out}", "cat {source} > {out}"),
    _own_digest,
    _digested,
    _digest,
    reads=("txt", "csv", "dat"),
    writes=("sum", "txt"),
    check=_holds_digest,
    verify=("ls {out}",),
    passes_on=False,
    open_ended=lambda lines, v: _digested(lines, v, ""),
)

TABLE: dict[str, Filter] = {
    "text_upper": _UPPER,
    "text_prefix": _PREFIX,
    "text_word": _WORD,
    "text_numbered": _NUMBERED,
    "text_total": _TOTAL,
    "text_checksum": _CHECKSUM,
}
AUTHORS: dict[str, Author] = {name: author(row) for name, row in TABLE.items()} | {"text_replace": replace}
