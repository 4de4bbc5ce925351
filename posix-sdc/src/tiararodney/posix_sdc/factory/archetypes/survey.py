"""Survey: sizes of what lies in a folder. Held out with all of its family."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.archetypes.shapes import report
from tiararodney.posix_sdc.factory.checks import Author, Request, Work, absent, named, text_file, untouched, word_lines


def largest(request: Request) -> Work:
    """Write down the name of the largest file."""
    d = request.draw
    folder, out = d.noun(), d.file("txt", "out")
    sizes = d.rng.sample([2, 5, 9, 14], d.number(3, 4))
    files = [text_file(f"{folder}/{d.file('txt', 'dat', 'log')}", word_lines(d, n, n)) for n in sizes]
    big = max(files, key=lambda f: len(f.content))
    text = d.wording(
        [
            f"Write the name of the largest file in the folder {folder} to {out}",
            f"Which file in {folder} takes the most bytes? Its name goes to {out}.",
            f"{out} (must|should|shall) hold the name of the biggest file of {folder}.",
        ]
    )
    name = big.path.rpartition("/")[2]
    return report(
        text,
        files,
        out,
        named(out, name),
        f"ls -S {folder} | head -n 1 > {out}",
        near_misses=(f"ls -rS {folder} | head -n 1 > {out}", f"ls -S {folder} > {out}", f"wc -c {folder}/* > {out}"),
        ways=(f"(cd {folder} && wc -c * | sort -n | tail -n 2 | sed 1q | awk '{{ print $2 }}') > {out}",),
    )


def empty(request: Request) -> Work:
    """Delete the files that hold nothing."""
    d = request.draw
    folder = d.noun()
    full = [text_file(f"{folder}/{d.file('txt', 'dat')}", word_lines(d, 1, 3)) for _ in range(d.number(2, 3))]
    void = [text_file(f"{folder}/{d.file('txt', 'dat')}", []) for _ in range(d.number(1, 2))]
    text = d.wording(
        [
            f"Delete the empty files in the folder {folder}, and no others",
            f"Some files in {folder} hold nothing at all: remove these.",
            f"Clear {folder} of files without content; the others stay.",
        ]
    )
    return Work(
        text,
        (f"find {folder} -type f -empty -delete",),
        (*(absent(f.path) for f in void), *map(untouched, full)),
        (*full, *void),
        (folder,),
        (),
        ((f"rm {folder}/*",), (f"find {folder} -type f -empty",), (f"rm {full[0].path}",)),
        (f"ls {folder}",),
        ways=((f"find {folder} -type f -size 0 -exec rm {{}} +",),),
    )


AUTHORS: dict[str, Author] = {"survey_largest": largest, "survey_empty": empty}
