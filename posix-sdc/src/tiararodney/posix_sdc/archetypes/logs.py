"""Logs: lines with a level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, number_in, text_file, untouched

if TYPE_CHECKING:
    from tiararodney.posix_sdc.vocabulary import Draw

LEVELS = ("ERROR", "WARN", "INFO", "DEBUG")


def _log(draw: Draw, level: str) -> list[str]:
    others = [x for x in LEVELS if x != level]
    levels = [level] * draw.number(2, 3) + [draw.pick(others) for _ in range(draw.number(2, 4))]
    draw.rng.shuffle(levels)
    return [f"{x} {draw.noun()} {draw.number(1, 99)}" for x in levels]


def level(brief: Brief) -> Work:
    """Copy the lines of one level."""
    d = brief.draw
    path, out, wanted = d.file("log"), d.file("txt", "log"), d.pick(LEVELS)
    lines = _log(d, wanted)
    text = d.wording(
        [
            f"Copy the {wanted} lines of {path} to {out}",
            f"All {wanted} messages in {path} should be saved in {out}.",
            f"{out} is to hold every {wanted} line of {path}.",
        ]
    )
    given = text_file(path, lines)
    return Work(
        text,
        (f"grep {wanted} {path} > {out}",),
        (holds(out, [x for x in lines if x.startswith(wanted)]), untouched(given)),
        (given,),
        (path,),
        (out,),
        ((f"grep -v {wanted} {path} > {out}",), (f"grep -m 1 {wanted} {path} > {out}",), (f"cat {path} > {out}",)),
        (f"cat {out}",),
    )


def count(brief: Brief) -> Work:
    """Count the lines of one level."""
    d = brief.draw
    path, out, wanted = d.file("log"), d.file("txt", "num"), d.pick(LEVELS)
    lines = _log(d, wanted)
    text = d.wording(
        [
            f"Write the number of {wanted} lines in {path} to {out}",
            f"How many {wanted} messages are in {path}? The number goes to {out}.",
            f"{out} is to hold the count of {wanted} lines of {path}.",
        ]
    )
    given = text_file(path, lines)
    return Work(
        text,
        (f"grep -c {wanted} {path} > {out}",),
        (number_in(out, sum(x.startswith(wanted) for x in lines)), untouched(given)),
        (given,),
        (path,),
        (out,),
        ((f"grep {wanted} {path} > {out}",), (f"wc -l < {path} > {out}",), (f"echo 0 > {out}",)),
        (f"cat {out}",),
    )


def rotate(brief: Brief) -> Work:
    """Move a log aside and leave an empty one."""
    d = brief.draw
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
        (holds(old, given.content), f"[ -f {path} ] && [ ! -s {path} ]"),
        (given,),
        (path,),
        (old,),
        ((f"mv {path} {old}",), (f": > {path}",), (f"cat {path} > {old}",)),
        ("ls", "ls -l"),
    )


AUTHORS: dict[str, Author] = {"logs_level": level, "logs_count": count, "logs_rotate": rotate}
