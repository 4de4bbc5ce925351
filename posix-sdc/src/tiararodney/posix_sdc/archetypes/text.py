"""Text: lines and words of one file."""

from __future__ import annotations

import hashlib
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
    text = d.wording(
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
    text = d.wording(
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
    text = d.wording(
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
    text = d.wording(
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


def headless(brief: Brief) -> Work:
    """Leave out the first line of a file, its header."""
    d = brief.draw
    source, out = d.file("csv", "txt", "tab"), d.file("csv", "txt", "out")
    lines = ["name count", *word_lines(d, 4, 7)]
    text = d.wording(
        [
            f"Write {source} without its header line to {out}",
            f"{out} is to hold all of {source} but the first line.",
            f"Drop the first line of {source} and save the rest in {out}.",
            f"Save everything after the first line of {source} as {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"sed 1d {source} > {out}",),
        (holds(out, lines[1:]), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"head -n 1 {source} > {out}",), (f"sed 2d {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def last(brief: Brief) -> Work:
    """Keep the last lines of a file."""
    d = brief.draw
    source, out = d.file("txt", "list", "log"), d.file("txt", "out")
    lines = word_lines(d, 6, 9)
    n = d.number(2, 4)
    text = d.wording(
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


def bottom(brief: Brief) -> Work:
    """Keep the last line of a file."""
    d = brief.draw
    source, out = d.file("txt", "list", "log"), d.file("txt", "out")
    lines = word_lines(d, 4, 7)
    text = d.wording(
        [
            f"Write the last line of {source} to {out}",
            f"{out} is to hold the last line of {source}.",
            f"Take the last line of {source} and save it as {out}.",
            f"Save the line at the end of {source} in {out}.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"tail -n 1 {source} > {out}",),
        (holds(out, lines[-1]), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"head -n 1 {source} > {out}",), (f"tail -n 2 {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def without(brief: Brief) -> Work:
    """Copy the lines that do not hold a word."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    word, lines, dropped = _tagged(d)
    text = d.wording(
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
    text = d.wording(
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
    text = d.wording(
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
    text = d.wording(
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


def unique(brief: Brief) -> Work:
    """Sort lines and drop those that come twice."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    words = d.nouns(d.number(3, 4))
    lines = [*words, *d.rng.sample(words, 2)]
    d.rng.shuffle(lines)
    text = d.wording(
        [
            f"Write the unique lines of {source}, sorted, to {out}",
            f"Sort {source} into {out}, each line only once.",
            f"{out} is to hold {source} sorted and without duplicates.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"sort -u {source} > {out}",),
        (holds(out, sorted(words)), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"sort {source} > {out}",), (f"sort -ru {source} > {out}",), (f"cat {source} > {out}",)),
        (f"cat {out}",),
    )


def reverse(brief: Brief) -> Work:
    """Turn the order of lines round."""
    d = brief.draw
    source, out = d.file("txt", "list"), d.file("txt", "out")
    lines = word_lines(d, 3, 5)
    text = d.wording(
        [
            f"Write the lines of {source} in reverse order to {out}",
            f"Reverse the order of the lines of {source} into {out}.",
            f"{out} is to hold {source} upside down: the bottom line comes on top.",
        ]
    )
    given = text_file(source, lines)
    return Work(
        text,
        (f"tac {source} > {out}",),
        (holds(out, lines[::-1]), untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"cat {source} > {out}",), (f"tac {source} | sed 1d > {out}",), (f"rev {source} > {out}",)),
        (f"cat {out}",),
    )


def checksum(brief: Brief) -> Work:
    """Write a file's checksum down."""
    d = brief.draw
    source, out = d.file("txt", "csv", "dat"), d.file("sum", "txt")
    given = text_file(source, word_lines(d, 2, 4))
    program = d.pick(("sha256sum", "md5sum"))
    digest = hashlib.new(program[:-3], given.content.encode(), usedforsecurity=False).hexdigest()
    text = d.wording(
        [
            f"Write the {program[:-3]} sum of {source} to {out}",
            f"Save the {program[:-3]} checksum of {source} in {out}.",
            f"{out} is to hold what {program} says of {source}.",
        ]
    )
    other = "md5sum" if program == "sha256sum" else "sha256sum"
    return Work(
        text,
        (f"{program} {source} > {out}",),
        (f"[ -f {out} ] && [ \"$(cut -d' ' -f1 {out})\" = {digest} ]", untouched(given)),
        (given,),
        (source,),
        (out,),
        ((f"{other} {source} > {out}",), (f"{program} {out} > {out}",), (f"cat {source} > {out}",)),
        (f"ls {out}",),
    )


def paste(brief: Brief) -> Work:
    """Put two files side by side."""
    d = brief.draw
    left, right = d.file("txt", "col"), d.file("txt", "col")
    out = d.file("tab", "txt")
    n = d.number(2, 4)
    names, counts = d.nouns(n), [str(d.number(1, 99)) for _ in range(n)]
    text = d.wording(
        [
            f"Paste {left} and {right} side by side into {out}",
            f"{out} is to hold {left} and {right} as two columns.",
            f"Write {left} and {right} next to each other to {out}, as paste does.",
        ]
    )
    a, b = text_file(left, names), text_file(right, counts)
    return Work(
        text,
        (f"paste {left} {right} > {out}",),
        (holds(out, [f"{x}\t{y}" for x, y in zip(names, counts, strict=True)]), untouched(a), untouched(b)),
        (a, b),
        (left, right),
        (out,),
        ((f"cat {left} {right} > {out}",), (f"paste {right} {left} > {out}",), (f"paste {left} > {out}",)),
        (f"cat {out}",),
    )


AUTHORS: dict[str, Author] = {
    "text_unique": unique,
    "text_reverse": reverse,
    "text_checksum": checksum,
    "text_paste": paste,
    "text_count": count,
    "text_matching": matching,
    "text_tally": tally,
    "text_first": first,
    "text_headless": headless,
    "text_bottom": bottom,
    "text_last": last,
    "text_without": without,
    "text_sort": sort,
    "text_replace": replace,
    "text_upper": upper,
}
