"""Logs: lines with a level or with a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.filters import Filter, Lines, Values, author, one_number
from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Work,
    holds,
    is_empty,
    is_file,
    q,
    text_file,
    untouched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

LEVELS = ("ERROR", "WARN", "INFO", "DEBUG")


def _log(draw: Draw, level: str) -> list[str]:
    others = [x for x in LEVELS if x != level]
    levels = [level] * draw.number(2, 3) + [draw.pick(others) for _ in range(draw.number(2, 4))]
    draw.rng.shuffle(levels)
    return [f"{x} {draw.noun()} {draw.number(1, 99)}" for x in levels]


def _own(draw: Draw) -> tuple[Lines, Values]:
    level = draw.pick(LEVELS)
    return _log(draw, level), {"level": level}


def _some_level(draw: Draw, lines: Sequence[str]) -> Values | None:
    """Choose a level that at least two lines have and some have not."""
    good = [x for x in LEVELS if 1 < sum(line.startswith(x) for line in lines) < len(lines)]
    fits = good and all(line.startswith(LEVELS) for line in lines)
    return {"level": draw.pick(good)} if fits else None


def _of_level(lines: Sequence[str], v: Values) -> Lines:
    return [line for line in lines if line.startswith(v["level"])]


def _timed(draw: Draw) -> tuple[Lines, Values]:
    """Return lines of which at least two, and not all, have the hour asked for."""
    hours = sorted(draw.numbers(3, 0, 23))
    asked = draw.pick(hours)
    times = [(h, m) for h in hours for m in sorted(draw.numbers(draw.number(2, 3), 0, 59))]
    return [f"{h:02}:{m:02} {draw.pick(LEVELS)} {draw.noun()}" for h, m in times], {"hour": f"{asked:02}"}


def _top(lines: Sequence[str]) -> Lines:
    names = [line.split()[1] for line in lines]
    return [max(sorted(set(names)), key=names.count)]


def _crowded(draw: Draw) -> tuple[Lines, Values]:
    """Return lines in which one name comes oftener than each of the others."""
    often, *others = draw.nouns(draw.number(3, 4))
    first, *names = [*others, often, often, often]
    draw.rng.shuffle(names)
    return [f"{draw.pick(LEVELS)} {name} {draw.number(1, 99)}" for name in (first, *names)], {}


_LEVEL = Filter(
    (
        "Copy the {level} lines of {source} to {out}",
        "All {level} messages in {source} should be saved in {out}.",
        "{out} (has to|ought to|will) contain every {level} line of {source}.",
    ),
    ("grep {level} {source} > {out}", "grep ^{level} {source} > {out}", "sed -n '/^{level}/p' {source} > {out}"),
    ("grep -v {level} {source} > {out}", "grep -m 1 {level} {source} > {out}", "cat {source} > {out}"),
    _own,
    _of_level,
    _some_level,
    reads=("log",),
    writes=("txt", "log"),
)

_COUNT = Filter(
    (
        "Write the number of {level} lines in {source} to {out}",
        "How many {level} messages are in {source}? The number goes to {out}.",
        "{out} (needs|gets|receives) the count of {level} lines of {source}.",
    ),
    ("grep -c {level} {source} > {out}", "grep -c {level} < {source} > {out}"),
    ("grep {level} {source} > {out}", "wc -l < {source} > {out}", "echo 0 > {out}"),
    _own,
    lambda lines, v: [str(len(_of_level(lines, v)))],
    _some_level,
    reads=("log",),
    writes=("txt", "num"),
    check=one_number,
    passes_on=False,
)

_HOUR = Filter(
    (
        "Copy what {source} says of the hour {hour} to {out}",
        "{out} (must|should) contain the lines of {source} whose time begins with {hour}.",
        "Save the lines of {source} from {hour}:00 to {hour}:59 in {out}.",
    ),
    ("grep ^{hour}: {source} > {out}", "sed -n '/^{hour}:/p' {source} > {out}", "awk '/^{hour}:/' {source} > {out}"),
    ("cat {source} > {out}", "grep -m 1 ^{hour}: {source} > {out}", "grep -c ^{hour}: {source} > {out}"),
    _timed,
    lambda lines, v: [line for line in lines if line.startswith(v["hour"] + ":")],
    reads=("log",),
    writes=("txt", "log"),
)

_LOUDEST = Filter(
    (
        (
            "Which name (the second word) (is the most frequent|comes up most often|occurs most) in "
            "{source}? Write it to {out}"
        ),
        (
            "{out} (has to|ought to) hold the name that "
            "(most lines of {source} have as their second word|is most often the second word in {source})."
        ),
        "Find out who writes most into {source} (the name is the second word of a line); put that name into {out}.",
    ),
    (
        "cut -d' ' -f2 {source} | sort | uniq -c | sort -rn | awk 'NR == 1 {{ print $2 }}' > {out}",
        "awk '{{ print $2 }}' {source} | sort | uniq -c | sort -n | awk 'END {{ print $2 }}' > {out}",
    ),
    (
        "cut -d' ' -f2 {source} | sort -u > {out}",
        "cut -d' ' -f2 {source} | sed 1q > {out}",
        "cut -d' ' -f2 {source} | sort | uniq -c | sort -rn > {out}",
    ),
    _crowded,
    lambda lines, _: _top(lines),
    reads=("log",),
    passes_on=False,
)


def rotate(request: Request) -> Work:
    """Move a log aside and leave an empty one."""
    d = request.draw
    path = d.file("log")
    old = f"{path}.{d.pick(('1', 'old', 'prev'))}"
    text = d.wording(
        [
            f"Rotate {path}: move it to {old} and leave an empty {path}",
            f"Move {path} to {old}, then make a new empty {path}.",
            f"{path} has to be renamed {old} and started again as an empty file.",
        ]
    )
    given = text_file(path, _log(d, "INFO"))
    return Work(
        text,
        (f"mv {path} {old}", f"touch {path}"),
        (holds(old, given.content), is_file(old), is_empty(path)),
        (given,),
        (path,),
        (old,),
        ((f"mv {path} {old}",), (f": > {path}",), (f"cat {path} > {old}",)),
        ("ls", f"wc -l {path}"),
        ways=((f"mv {path} {old}", f": > {path}"),),
    )


def split(request: Request) -> Work:
    """Copy the errors to one file and the warnings to another."""
    d = request.draw
    path, errors, warnings = d.file("log"), d.file("log", "txt"), d.file("log", "txt")
    lines = [*_log(d, "ERROR"), f"WARN {d.noun()} {d.number(1, 99)}"]
    d.rng.shuffle(lines)
    text = d.wording(
        [
            f"Split {path}: its ERROR lines go to {errors}, its WARN lines to {warnings}",
            f"Copy the ERROR lines of {path} to {errors} and the WARN lines to {warnings}.",
            f"{errors} (must|should|shall) hold the ERROR lines of {path}, and {warnings} the WARN lines.",
        ]
    )
    given = text_file(path, lines)
    of = {x: [line for line in lines if re.match(x, line)] for x in ("ERROR", "WARN")}
    one, two = f"grep ERROR {path} > {errors}", f"grep WARN {path} > {warnings}"
    return Work(
        text,
        (one, two),
        (holds(errors, of["ERROR"]), holds(warnings, of["WARN"]), untouched(given)),
        (given,),
        (path,),
        (errors, warnings),
        ((one,), (two,), (f"grep ERROR {path} > {warnings}", f"grep WARN {path} > {errors}")),
        (f"cat {errors} {warnings}", f"wc -l {q(errors)}"),
        ways=((two, one), (f"grep ^ERROR {path} > {errors}", f"grep ^WARN {path} > {warnings}")),
    )


TABLE: dict[str, Filter] = {
    "logs_level": _LEVEL,
    "logs_count": _COUNT,
    "logs_hour": _HOUR,
    "logs_loudest": _LOUDEST,
}
AUTHORS: dict[str, Author] = {name: author(row) for name, row in TABLE.items()} | {
    "logs_rotate": rotate,
    "logs_split": split,
}
