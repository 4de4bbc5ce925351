"""Compare: what one file has and another has not. Held out with all of its family."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.checks import Author, Request, Source, Work, named, same_lines, text_file, untouched


def missing(request: Request) -> Work:
    """Write down which lines of a list are not in another."""
    d = request.draw
    whole, part, out = d.file("txt", "list"), d.file("txt", "list"), d.file("txt", "out")
    names = sorted(d.nouns(d.number(5, 7)))
    gone = sorted(d.rng.sample(names, d.number(2, 3)))
    kept = [n for n in names if n not in gone]
    extra = d.noun()
    have = sorted([*kept, extra])
    text = d.wording(
        [
            f"Write the lines of {whole} that {part} lacks to {out}; both are sorted",
            f"Which lines of {whole} do not stand in {part}? They go to {out}. Both files are sorted.",
            f"{out} will contain what {whole} has and {part} (sorted like the first) has not, line by line.",
        ]
    )
    a, b = text_file(whole, names), text_file(part, have)
    return Work(
        text,
        (f"comm -23 {whole} {part} > {out}",),
        (same_lines(out, gone), untouched(a), untouched(b)),
        (a, b),
        (whole, part),
        (out,),
        (
            (f"comm -12 {whole} {part} > {out}",),
            (f"comm -13 {whole} {part} > {out}",),
            (f"diff {whole} {part} > {out}",),
        ),
        (f"cat {out}",),
        ways=((f"grep -vxFf {part} {whole} > {out}",),),
        result=Source(out, tuple(gone), "Leave them sorted."),
    )


def newer(request: Request) -> Work:
    """Bring a folder's copy up to date where it differs."""
    d = request.draw
    old, new = d.nouns(2)
    names = [d.file("txt", "csv") for _ in range(d.number(3, 4))]
    changed = d.pick(names)
    bodies = {n: [f"{d.noun()} {d.number(1, 99)}" for _ in range(2)] for n in names}
    ours = [text_file(f"{old}/{n}", bodies[n]) for n in names]
    fresh = [*bodies[changed], d.noun()]
    theirs = [text_file(f"{new}/{n}", fresh if n == changed else bodies[n]) for n in names]
    out = d.file("txt", "list")
    text = d.wording(
        [
            f"The folders {old} and {new} have the same file names. Write the name of the one that differs to {out}",
            f"{out} (needs|gets|receives) the name of the file that is not the same in {old} and {new}.",
            f"Compare the files of {old} with those of {new}; save the name of the one that differs in {out}.",
        ]
    )
    return Work(
        text,
        (f"for f in $(ls {old}); do cmp -s {old}/$f {new}/$f || echo $f; done > {out}",),
        (named(out, changed), *map(untouched, (*ours, *theirs))),
        (*ours, *theirs),
        (old, new),
        (out,),
        ((f"ls {old} > {out}",), (f"diff -rq {old} {new} > {out}",), (f"echo {new} > {out}",)),
        (f"cat {out}",),
        ways=((f"diff -rq {old} {new} | awk '{{ print $2 }}' | sed 's/.*\\///' > {out}",),),
    )


AUTHORS: dict[str, Author] = {"compare_missing": missing, "compare_folders": newer}
