"""Convert: tables from one form to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file, untouched

if TYPE_CHECKING:
    from tiararodney.posix_sdc.vocabulary import Draw

SEPARATORS = {"comma": ",", "colon": ":", "semicolon": ";"}


def _rows(draw: Draw) -> list[list[str]]:
    return [[draw.noun(), str(draw.number(1, 99)), draw.noun()] for _ in range(draw.number(3, 4))]


def column(brief: Brief) -> Work:
    """Cut one column out of a table."""
    d = brief.draw
    path, out, n = d.file("csv"), d.file("txt", "col"), d.number(1, 3)
    rows = _rows(d)
    text = d.wording(
        [
            f"Write column {n} of {path} to {out}",
            f"{out} is to hold column {n} of {path}.",
            f"Cut column {n} out of {path} and save it as {out}. The columns are separated by commas.",
        ]
    )
    given = text_file(path, [",".join(r) for r in rows])
    return Work(
        text,
        (f"cut -d, -f{n} {path} > {out}",),
        (holds(out, [r[n - 1] for r in rows]), untouched(given)),
        (given,),
        (path,),
        (out,),
        ((f"cut -d, -f{n % 3 + 1} {path} > {out}",), (f"cut -c{n} {path} > {out}",), (f"cat {path} > {out}",)),
        (f"cat {out}",),
    )


def delimiter(brief: Brief) -> Work:
    """Change the separator of a table."""
    d = brief.draw
    path, out = d.file("csv", "tab", "dat"), d.file("csv", "dat", "out")
    old, new = d.rng.sample(sorted(SEPARATORS), 2)
    rows = _rows(d)
    text = d.wording(
        [
            f"Write {path} to {out} with every {old} turned into a {new}",
            f"{out} is to hold {path} with a {new} in place of each {old}.",
            f"Turn every {old} of {path} into a {new} and save the result as {out}.",
        ]
    )
    given = text_file(path, [SEPARATORS[old].join(r) for r in rows])
    return Work(
        text,
        (f"tr '{SEPARATORS[old]}' '{SEPARATORS[new]}' < {path} > {out}",),
        (holds(out, [SEPARATORS[new].join(r) for r in rows]), untouched(given)),
        (given,),
        (path,),
        (out,),
        (
            (f"cat {path} > {out}",),
            (f"tr -d '{SEPARATORS[old]}' < {path} > {out}",),
            (f"sed 's/{SEPARATORS[old]}/{SEPARATORS[new]}/' {path} > {out}",),
        ),
        (f"cat {out}",),
    )


AUTHORS: dict[str, Author] = {"convert_column": column, "convert_delimiter": delimiter}
