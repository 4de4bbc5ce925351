"""Text: lines and words of one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes.base import (
    Author,
    Brief,
    Work,
    holds,
    number_in,
    q,
    text_file,
    untouched,
    word_lines,
)

if TYPE_CHECKING:
    from tiararodney.posix_sdc.vocabulary import Draw


def _tagged(draw: Draw) -> tuple[str, list[str], list[str]]:
    """Return a word, lines of which some hold it, and those that do."""
    wanted, *others = draw.nouns(draw.number(3, 4))
    tags = [wanted] * draw.number(2, 3) + [draw.pick(others) for _ in range(draw.number(2, 4))]
    draw.rng.shuffle(tags)
    lines = [f"{name} {tag}" for name, tag in zip(draw.nouns(len(tags)), tags, strict=True)]
    return wanted, lines, [line for line in lines if line.endswith(f" {wanted}")]


def count(brief: Brief) -> Work:
    """Count the lines of a file."""
    d = brief.draw
    source, out = d.file("txt", "list", "csv"), d.file("txt", "out")
    lines = word_lines(d)
    text = d.pick(
        [
            f"Count the lines of {source} and write the number to {out}",
            f"How many lines has {source}? Put the number into {out}.",
            f"{out} is to hold the number of lines in {source}.",
            f"Write the line count of {source} to {out}.",
            f"We need the number of lines of {source} in a file {out}",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"wc -l < {source} > {out}",),
        (number_in(out, len(lines)), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"wc -l {source} > {out}",), (f"wc -w < {source} > {out}",), (f"echo {len(lines) + 1} > {out}",)),
        (f"cat {out}",),
    )


def matching(brief: Brief) -> Work:
    """Copy the lines that hold a word."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    word, lines, wanted = _tagged(d)
    text = d.pick(
        [
            f"Write the lines of {source} that contain {word} to {out}",
            f"Find every line with {word} in {source} and save them in {out}.",
            f"{out} is to hold the lines of {source} with the word {word}.",
            f"Pick the lines with {word} out of {source}; they go to {out}.",
            f"Lines of {source} that mention {word} belong in {out}",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"grep {word} {source} > {out}",),
        (holds(out, wanted), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"grep -v {word} {source} > {out}",), (f"grep -c {word} {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def tally(brief: Brief) -> Work:
    """Count the lines that hold a word."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "num")
    word, lines, wanted = _tagged(d)
    text = d.pick(
        [
            f"Count the lines of {source} that contain {word} and write the number to {out}",
            f"In how many lines of {source} does {word} occur? Put the number into {out}.",
            f"{out} is to hold the number of lines with {word} in {source}.",
            f"Write to {out} how many lines of {source} mention {word}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"grep -c {word} {source} > {out}",),
        (number_in(out, len(wanted)), untouched(given)),
        (given,),
        (source,),
        (out,),
        (
            (f"grep {word} {source} > {out}",),
            (f"wc -l < {source} > {out}",),
            (f"grep -vc {word} {source} | sed s/$/0/ > {out}",),
        ),
        (f"cat {out}",),
    )


def first(brief: Brief) -> Work:
    """Keep the first lines of a file."""
    d = brief.draw
    source, out = d.file("txt", "list", "log"), d.file("txt", "out")
    lines = word_lines(d, 6, 9)
    n = d.number(2, 4)
    text = d.pick(
        [
            f"Write the first {n} lines of {source} to {out}",
            f"{out} is to hold the first {n} lines of {source}.",
            f"Take the first {n} lines of {source} and save them as {out}.",
            f"Save the {n} lines at the top of {source} in {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"head -n {n} {source} > {out}",),
        (holds(out, lines[:n]), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"tail -n {n} {source} > {out}",), (f"head -n {n + 1} {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def last(brief: Brief) -> Work:
    """Keep the last lines of a file."""
    d = brief.draw
    source, out = d.file("txt", "list", "log"), d.file("txt", "out")
    lines = word_lines(d, 6, 9)
    n = d.number(2, 4)
    text = d.pick(
        [
            f"Write the last {n} lines of {source} to {out}",
            f"{out} is to hold the last {n} lines of {source}.",
            f"Take the last {n} lines of {source} and save them as {out}.",
            f"Save the {n} lines at the end of {source} in {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"tail -n {n} {source} > {out}",),
        (holds(out, lines[-n:]), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"head -n {n} {source} > {out}",), (f"tail -n {n + 1} {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def without(brief: Brief) -> Work:
    """Copy the lines that do not hold a word."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    word, lines, dropped = _tagged(d)
    text = d.pick(
        [
            f"Write the lines of {source} that do not contain {word} to {out}",
            f"{out} is to hold {source} without the lines that mention {word}.",
            f"Leave out every line with {word}: the other lines of {source} go to {out}.",
            f"Save all lines of {source} except those with {word} in {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"grep -v {word} {source} > {out}",),
        (holds(out, [line for line in lines if line not in dropped]), untouched(given)),
        (given,),
        (source,),
        (out,),
        (
            (f"grep {word} {source} > {out}",),
            (f"grep -v {word} {source} | sort -r | sed 1p > {out}",),
            (f"cat {source} > {out}",),
        ),
        (f"cat {out}",),
    )


def sort(brief: Brief) -> Work:
    """Sort lines, by letter or by number, up or down."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    numeric = d.chance(0.4)
    reverse = d.chance(0.35)
    lines = [str(n) for n in d.numbers(d.number(4, 6), 2, 400)] if numeric else d.nouns(d.number(4, 6))
    wanted = sorted(lines, key=(int) if numeric else None, reverse=reverse)
    if wanted == lines:
        lines = lines[1:] + lines[:1]
    flags = " -" + ("n" if numeric else "") + ("r" if reverse else "") if numeric or reverse else ""
    how = ("numerically" if numeric else "alphabetically") + (", in reverse" if reverse else "")
    text = d.pick(
        [
            f"Sort {source} {how} into {out}",
            f"{out} is to hold the lines of {source}, sorted {how}.",
            f"Sort the lines of {source} {how} and save the result as {out}.",
            f"Write {source}, sorted {how}, to {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"sort{flags} {source} > {out}",),
        (holds(out, wanted), untouched(given)),
        (given,),
        (source,),
        (out,),
        (
            (f"cat {source} > {out}",),
            (f"sort{'' if reverse else ' -r'}{' -n' if numeric else ''} {source} > {out}",),
            (f"sort{flags} {source} | sed 1d > {out}",),
        ),
        (f"cat {out}",),
    )


def replace(brief: Brief) -> Work:
    """Replace a word in place."""
    d = brief.draw
    source = d.file("txt", "list", "md")
    old, new, other = d.nouns(3)
    lines = [f"{noun} {d.pick((old, other))}" for noun in d.nouns(d.number(3, 5))]
    lines[d.number(0, len(lines) - 1)] = f"{d.noun()} {old}"
    text = d.pick(
        [
            f"Replace {old} with {new} in {source}",
            f"In {source} the word {old} has to become {new}.",
            f"Change every {old} in {source} to {new}.",
            f"{source} says {old}; it is to say {new} instead.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"sed -i 's/{old}/{new}/g' {source}",),
        (holds(source, [line.replace(f" {old}", f" {new}") for line in lines]),),
        (given,),
        (source,),
        (),
        ((f"sed -i 's/{new}/{old}/g' {source}",), (f"sed -i '/{old}/d' {source}",), (f"echo {new} > {source}",)),
        (f"cat {source}", f"grep {new} {source}"),
    )


def upper(brief: Brief) -> Work:
    """Turn letters to upper or lower case."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    up = d.chance(0.6)
    words = d.nouns(d.number(3, 5))
    lines = words if up else [w.upper() for w in words]
    wanted = [w.upper() for w in words] if up else words
    case, sets = ("upper", "a-z A-Z") if up else ("lower", "A-Z a-z")
    text = d.pick(
        [
            f"Write {source} in {case} case to {out}",
            f"{out} is to hold the text of {source} in {case} case.",
            f"Turn {source} into {case} case and save it as {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"tr {sets} < {source} > {out}",),
        (holds(out, wanted), untouched(given)),
        (given,),
        (source,),
        (out,),
        (
            (f"cat {source} > {out}",),
            (f"tr {sets} < {source} | sed 1d > {out}",),
            (f"echo {q(wanted[0])} > {out}",),
        ),
        (f"cat {out}",),
    )


AUTHORS: dict[str, Author] = {
    "text_count": count,
    "text_matching": matching,
    "text_tally": tally,
    "text_first": first,
    "text_last": last,
    "text_without": without,
    "text_sort": sort,
    "text_replace": replace,
    "text_upper": upper,
}
