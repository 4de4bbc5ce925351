"""Files: folders, and what lies in them."""

from __future__ import annotations

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Work,
    absent,
    holds,
    is_empty,
    is_folder,
    listed,
    text_file,
    untouched,
    word_lines,
)


def folder(request: Request) -> Work:
    """Make a folder, or one in another."""
    d = request.draw
    outer, inner = d.nouns(2)
    deep = d.chance(0.5)
    path = f"{outer}/{inner}" if deep else outer
    text = d.wording(
        [
            f"Create a folder {path}",
            f"Make the directory {path}.",
            f"A folder named {path} is needed.",
            f"There should be a directory {path}",
        ]
    )
    return Work(
        text,
        (f"mkdir -p {path}" if deep else f"mkdir {path}",),
        (is_folder(path),),
        (),
        (),
        (path,),
        (
            (f"mkdir {outer}-{inner}",),
            (f"mkdir -p {outer}; touch {path}",) if deep else (f"touch {path}",),
            (f"mkdir {inner}",),
        ),
        ("ls", f"ls -d {path}"),
        ways=((f"mkdir -p ./{path}",), (f"mkdir {outer} && mkdir -p {path}",)),
    )


def shelve(request: Request) -> Work:
    """Make a folder and move a file into it."""
    d = request.draw
    moved, shelf = d.file("txt", "csv", "log", "md"), d.noun()
    text = d.wording(
        [
            f"Create a folder {shelf} and move {moved} into it",
            f"{moved} belongs in a new folder {shelf}.",
            f"Make a directory {shelf}; {moved} (should|must|has to|ought to) be moved there.",
            f"Put {moved} into a new directory named {shelf}.",
        ]
    )
    given = text_file(moved, word_lines(d, 2, 4))
    return Work(
        text,
        (f"mkdir {shelf}", f"mv {moved} {shelf}/"),
        (holds(f"{shelf}/{moved}", given.content), is_folder(shelf), absent(moved)),
        (given,),
        (moved,),
        (shelf, f"{shelf}/{moved}"),
        ((f"mkdir {shelf}",), (f"mv {moved} {shelf}",), (f"mkdir {shelf}", f"cat {moved} > {shelf}/{moved}")),
        (f"ls {shelf}",),
        ways=((f"mkdir -p {shelf}", f"mv {moved} {shelf}/{moved}"), (f"mkdir ./{shelf}", f"mv {moved} {shelf}")),
    )


def move(request: Request) -> Work:
    """Move a file into a folder that is there."""
    d = request.draw
    moved, shelf = d.file("txt", "csv", "log", "md"), d.noun()
    text = d.wording(
        [
            f"Move {moved} into the folder {shelf}",
            f"Move {moved} to the directory {shelf}.",
            f"{moved} belongs in the folder {shelf}.",
            f"Put {moved} into {shelf}, the folder beside it.",
        ]
    )
    given, other = text_file(moved, word_lines(d, 2, 4)), text_file(f"{shelf}/{d.file()}", word_lines(d, 1, 2))
    return Work(
        text,
        (f"mv {moved} {shelf}/",),
        (holds(f"{shelf}/{moved}", given.content), absent(moved), untouched(other)),
        (given, other),
        (moved,),
        (f"{shelf}/{moved}",),
        ((f"rm {moved}",), (f"cat {moved} > {shelf}/{moved}",), (f"mv {moved} {shelf}-{moved}",)),
        (f"ls {shelf}",),
        ways=((f"mv {moved} {shelf}",), (f"mv {moved} {shelf}/{moved}",)),
    )


def names(request: Request) -> Work:
    """Write down what is in a folder."""
    d = request.draw
    folder, out = d.noun(), d.file("txt", "list")
    inside = sorted(d.file("txt", "csv") for _ in range(d.number(2, 4)))
    text = d.wording(
        [
            f"List the names of the files in the folder {folder} in {out}, one a line",
            (
                f"Write the names of the files in {folder} to {out}, each on (a line of its own|its own "
                "line|a separate line)."
            ),
            f"Save the names of everything in the directory {folder} as {out}: one name a line, nothing else.",
        ]
    )
    files = tuple(text_file(f"{folder}/{name}", word_lines(d, 1, 1)) for name in inside)
    return Work(
        text,
        (f"ls {folder} > {out}",),
        (listed(out, inside, folder),),
        files,
        (folder,),
        (out,),
        ((f"ls > {out}",), (f"touch {out}",), (f"echo {inside[0]} > {out}",)),
        (f"cat {out}",),
        ways=((f"ls -1 {folder} > {out}",), (f"(cd {folder} && ls) > {out}",)),
    )


def find(request: Request) -> Work:
    """Find a file in a tree and write its path down."""
    d = request.draw
    top, name, out = d.noun(), d.file("txt", "csv", "dat"), d.file("txt", "path")
    folders = [f"{top}/{a}/{b}" for a, b in (d.nouns(2) for _ in range(d.number(2, 4)))]
    place = f"{d.pick(folders)}/{name}"
    text = d.wording(
        [
            f"Somewhere below the folder {top} lies {name}: write its path, beginning with {top}/, to {out}",
            f"{out} should hold the path of {name}, which is somewhere in {top} (the path starts with {top}/).",
            f"Find {name} in the tree {top} and save its path ({top}/...) in {out}.",
        ]
    )
    others = tuple(text_file(f"{f}/{d.file('txt', 'csv')}", word_lines(d, 1, 1)) for f in folders)
    return Work(
        text,
        (f"find {top} -name {name} > {out}",),
        (listed(out, [place]),),
        (*others, text_file(place, word_lines(d, 1, 2))),
        (top,),
        (out,),
        ((f"find {top} -type f > {out}",), (f"echo {name} > {out}",), (f"mv {place} {out}",)),
        (f"cat {out}",),
        ways=((f"find {top} -type f | grep '/{name}$' > {out}",), (f"ls {top}/*/*/{name} > {out}",)),
    )


def gather(request: Request) -> Work:
    """Move all files of a kind from one folder into another."""
    d = request.draw
    kind, other = d.rng.sample(["log", "csv", "md", "bak", "dat"], 2)
    here, shelf = d.nouns(2)
    names = [d.file(kind) for _ in range(d.number(2, 4))]
    moved = [text_file(f"{here}/{name}", word_lines(d, 1, 2)) for name in names]
    kept = [text_file(f"{here}/{d.file(other)}", word_lines(d, 1, 2)) for _ in range(d.number(1, 2))]
    there = text_file(f"{shelf}/{d.file('txt')}", word_lines(d, 1, 1))
    text = d.wording(
        [
            f"Move every .{kind} file (of|from) the folder {here} into the folder {shelf}",
            (
                f"(All files|Whatever files|Files) in {here} that end in .{kind} (belong in|belong "
                f"into|have their place in) the folder {shelf}."
            ),
            f"The folder {shelf} (should|must) have the files of {here} whose names end in .{kind}; move them there.",
        ]
    )
    return Work(
        text,
        (f"mv {here}/*.{kind} {shelf}/",),
        (
            *(
                check
                for f, name in zip(moved, names, strict=True)
                for check in (holds(f"{shelf}/{name}", f.content), absent(f.path))
            ),
            *map(untouched, (*kept, there)),
        ),
        (*moved, *kept, there),
        (),
        tuple(f"{shelf}/{name}" for name in names),
        (
            (f"mv {here}/* {shelf}/",),
            (f"mv {moved[0].path} {shelf}/",),
            (f"cat {here}/*.{kind} > {shelf}/{names[0]}", f"rm {here}/*.{kind}"),
        ),
        (f"ls {shelf}", f"ls {here} {shelf}"),
        ways=((f"mv ./{here}/*.{kind} {shelf}",), (f'for f in {here}/*.{kind}; do mv "$f" {shelf}/; done',)),
    )


def tree(request: Request) -> Work:
    """Make folders within a folder, with an empty file in one of them."""
    d = request.draw
    top, one, two = d.nouns(3)
    flag = d.file("flag", "keep", "txt")
    text = d.wording(
        [
            f"Make the folders {top}/{one} and {top}/{two}, and an empty file {flag} in {top}/{two}",
            f"The folder {top} is needed with {one} and {two} in it; {two} holds an empty file {flag}.",
            f"Create {top}/{one}, {top}/{two} and the empty file {top}/{two}/{flag}.",
        ]
    )
    return Work(
        text,
        (f"mkdir -p {top}/{one} {top}/{two}", f"touch {top}/{two}/{flag}"),
        (is_folder(f"{top}/{one}"), is_folder(f"{top}/{two}"), is_empty(f"{top}/{two}/{flag}")),
        (),
        (),
        (f"{top}/{two}/{flag}", f"{top}/{one}"),
        (
            (f"mkdir -p {top}/{one} {top}/{two}",),
            (f"mkdir -p {top}/{one} {top}/{two}", f"touch {top}/{one}/{flag}"),
            (f"mkdir -p {one} {two}", f"touch {two}/{flag}"),
        ),
        (f"find {top} | sort", f"ls {top} {top}/{two}"),
        ways=((f"mkdir -p {top}/{two} {top}/{one}", f": > {top}/{two}/{flag}"),),
    )


AUTHORS: dict[str, Author] = {
    "files_move": move,
    "files_names": names,
    "files_folder": folder,
    "files_shelve": shelve,
    "files_find": find,
    "files_gather": gather,
    "files_tree": tree,
}
