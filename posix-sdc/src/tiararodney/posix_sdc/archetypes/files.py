"""Files: what lies where."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import (
    Author,
    Brief,
    Work,
    absent,
    holds,
    q,
    text_file,
    untouched,
    word_lines,
)


def note(brief: Brief) -> Work:
    """Write one line into a new file."""
    d = brief.draw
    out = d.file("txt", "md", "note")
    line = " ".join(d.nouns(d.number(1, 4)))
    text = d.wording(
        [
            f"Write '{line}' to {out}",
            f"Create a file {out} that says '{line}'.",
            f"{out} is to hold the line '{line}'.",
            f"Put '{line}' into a new file {out}.",
            f"A file named {out} is needed, with the text '{line}'",
        ]
    )
    return Work(
        text,
        (f"echo '{line}' > {out}",),
        (holds(out, line),),
        (),
        (),
        (out,),
        ((f"touch {out}",), (f"echo '{line} {line}' > {out}",), (f"echo '{line}' > {out}x",)),
        (f"cat {out}",),
        ways=((f"printf '%s\\n' '{line}' > {out}",), (f'echo "{line}" > {out}',), (f"cat > {out} <<END\n{line}\nEND",)),
    )


def rename(brief: Brief) -> Work:
    """Rename a file."""
    d = brief.draw
    old, new = d.file("txt", "csv", "dat"), d.file("txt", "csv", "dat")
    text = d.wording(
        [
            f"Rename {old} to {new}",
            f"{old} is to be called {new} from now on.",
            f"Give {old} the new name {new}.",
            f"The file {old} has the wrong name: it should be {new}",
        ]
    )
    given = text_file(old, word_lines(d, 2, 4))
    return Work(
        text,
        (f"mv {old} {new}",),
        (holds(new, given.content), absent(old)),
        (given,),
        (old,),
        (new,),
        ((f"cat {old} > {new}",), (f"rm {old}",), (f"rm {old}", f"touch {new}")),
        ("ls", f"ls {new}"),
        ways=((f"mv ./{old} ./{new}",), (f"mv -n {old} {new}",)),
    )


def remove(brief: Brief) -> Work:
    """Delete one file and no other."""
    d = brief.draw
    gone, kept = d.file("txt", "tmp", "bak", "csv"), d.file("txt", "csv")
    text = d.wording(
        [
            f"Delete {gone}",
            f"Remove the file {gone}.",
            f"{gone} is no longer needed: remove it.",
            f"Get rid of {gone}, and of nothing else",
        ]
    )
    stays = text_file(kept, word_lines(d, 2, 3))
    return Work(
        text,
        (f"rm {gone}",),
        (absent(gone), untouched(stays)),
        (text_file(gone, word_lines(d, 2, 3)), stays),
        (gone,),
        (),
        ((f"rm {gone} {kept}",), (f": > {gone}",), (f"mv {gone} {kept}",)),
        ("ls",),
        ways=((f"rm -f {gone}",), (f"rm ./{gone}",)),
    )


def folder(brief: Brief) -> Work:
    """Make a folder, or one in another."""
    d = brief.draw
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
        (f"[ -d {path} ]",),
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


def shelve(brief: Brief) -> Work:
    """Make a folder and move a file into it."""
    d = brief.draw
    moved, shelf = d.file("txt", "csv", "log", "md"), d.noun()
    text = d.wording(
        [
            f"Create a folder {shelf} and move {moved} into it",
            f"{moved} belongs in a new folder {shelf}.",
            f"Make a directory {shelf}; {moved} is to be moved there.",
            f"Put {moved} into a new directory named {shelf}.",
        ]
    )
    given = text_file(moved, word_lines(d, 2, 4))
    return Work(
        text,
        (f"mkdir {shelf}", f"mv {moved} {shelf}/"),
        (holds(f"{shelf}/{moved}", given.content), absent(moved)),
        (given,),
        (moved,),
        (shelf,),
        ((f"mkdir {shelf}",), (f"mv {moved} {shelf}",), (f"mkdir {shelf}", f"cat {moved} > {shelf}/{moved}")),
        (f"ls {shelf}",),
        ways=((f"mkdir -p {shelf}", f"mv {moved} {shelf}/{moved}"), (f"mkdir ./{shelf}", f"mv {moved} {shelf}")),
    )


def join(brief: Brief) -> Work:
    """Join two files into a third."""
    d = brief.draw
    one, two = d.file("txt", "csv"), d.file("txt", "csv")
    out = d.file("txt", "all")
    text = d.wording(
        [
            f"Join {one} and {two}, in this order, into {out}",
            f"{out} is to hold {one} followed by {two}.",
            f"Put {one} and then {two} together in one file {out}.",
        ]
    )
    a, b = text_file(one, word_lines(d, 2, 3)), text_file(two, word_lines(d, 2, 3))
    return Work(
        text,
        (f"cat {one} {two} > {out}",),
        (holds(out, a.content + b.content), untouched(a), untouched(b)),
        (a, b),
        (one, two),
        (out,),
        ((f"cat {two} {one} > {out}",), (f"cat {one} > {out}",), (f"cat {two} > {out}",)),
        (f"cat {out}",),
        ways=((f"cat {one} > {out}; cat {two} >> {out}",), (f"sed '' {one} {two} > {out}",)),
    )


def copy(brief: Brief) -> Work:
    """Copy a file under a new name."""
    d = brief.draw
    old, new = d.file("txt", "csv", "dat"), d.file("txt", "csv", "bak")
    text = d.wording(
        [
            f"Copy {old} to {new}",
            f"Make a copy of {old} named {new}.",
            f"We want a second copy of {old} under the name {new}.",
            f"{new} is to be a copy of {old}",
        ]
    )
    given = text_file(old, word_lines(d, 3, 5))
    return Work(
        text,
        (f"cp {old} {new}",),
        (holds(new, given.content), untouched(given), f"[ ! -L {new} ]"),
        (given,),
        (old,),
        (new,),
        ((f"mv {old} {new}",), (f"touch {new}",), (f"ln -s {old} {new}",)),
        (f"cat {new}", "ls"),
    )


def link(brief: Brief) -> Work:
    """Make a symbolic link."""
    d = brief.draw
    target, name = d.file("txt", "conf", "dat"), d.noun()
    text = d.wording(
        [
            f"Make a symbolic link {name} that points to {target}",
            f"{name} is to be a symbolic link to {target}.",
            f"Create a symlink named {name} to {target}.",
        ]
    )
    given = text_file(target, word_lines(d, 2, 4))
    return Work(
        text,
        (f"ln -s {target} {name}",),
        (f"[ -L {name} ]", holds(name, given.content), untouched(given)),
        (given,),
        (),
        (name,),
        ((f"cat {target} > {name}",), (f"ln {target} {name}",), (f"mv {target} {name}",)),
        (f"readlink {name}",),
    )


def empty(brief: Brief) -> Work:
    """Make an empty file."""
    d = brief.draw
    out = d.file("txt", "log", "lock", "flag")
    text = d.wording(
        [
            f"Create an empty file {out}",
            f"Make an empty file named {out}.",
            f"An empty file {out} is needed.",
            f"There should be a file {out} with nothing in it",
        ]
    )
    return Work(
        text,
        (f"touch {out}",),
        (f"[ -f {out} ] && [ ! -s {out} ]",),
        (),
        (),
        (out,),
        ((f"mkdir {out}",), (f"echo empty > {out}",), (f"touch {out}x",)),
        ("ls", f"ls {out}"),
        ways=((f": > {out}",), (f"> {out}",)),
    )


def move(brief: Brief) -> Work:
    """Move a file into a folder that is there."""
    d = brief.draw
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


def names(brief: Brief) -> Work:
    """Write down what is in a folder."""
    d = brief.draw
    folder, out = d.noun(), d.file("txt", "list")
    inside = sorted(d.file("txt", "csv") for _ in range(d.number(2, 4)))
    text = d.wording(
        [
            f"List the files of the folder {folder} in {out}",
            f"Write the names of the files in {folder} to {out}.",
            f"{out} is to hold a listing of the directory {folder}.",
        ]
    )
    files = tuple(text_file(f"{folder}/{name}", word_lines(d, 1, 1)) for name in inside)
    return Work(
        text,
        (f"ls {folder} > {out}",),
        (f'[ -f {out} ] && [ "$(sort {out})" = "$(printf \'%s\\n\' {" ".join(inside)} | sort)" ]',),
        files,
        (folder,),
        (out,),
        ((f"ls > {out}",), (f"touch {out}",), (f"echo {inside[0]} > {out}",)),
        (f"cat {out}",),
        ways=((f"ls -1 {folder} > {out}",), (f"(cd {folder} && ls) > {out}",)),
    )


def compress(brief: Brief) -> Work:
    """Compress a file with gzip."""
    d = brief.draw
    path = d.file("txt", "log", "csv")
    text = d.wording(
        [
            f"Compress {path} with gzip",
            f"Gzip {path}.",
            f"{path} is to become {path}.gz",
            f"Turn {path} into {path}.gz, compressed.",
        ]
    )
    given = text_file(path, word_lines(d, 3, 5))
    return Work(
        text,
        (f"gzip {path}",),
        (f'[ -f {path}.gz ] && [ "$(gzip -dc {path}.gz)" = {q(given.content.rstrip())} ]', absent(path)),
        (given,),
        (path,),
        (f"{path}.gz",),
        ((f"mv {path} {path}.gz",), (f"gzip -c {path} > {path}.gz",), (f"rm {path}",)),
        ("ls",),
        ways=((f"gzip -9 {path}",), (f"gzip ./{path}",)),
    )


def find(brief: Brief) -> Work:
    """Find a file in a tree and write its path down."""
    d = brief.draw
    top, name, out = d.noun(), d.file("txt", "csv", "dat"), d.file("txt", "path")
    folders = [f"{top}/{a}/{b}" for a, b in (d.nouns(2) for _ in range(d.number(2, 4)))]
    place = f"{d.pick(folders)}/{name}"
    text = d.wording(
        [
            f"Somewhere below the folder {top} lies {name}: write its path, beginning with {top}/, to {out}",
            f"{out} is to hold the path of {name}, which is somewhere in {top} (the path starts with {top}/).",
            f"Find {name} in the tree {top} and save its path ({top}/...) in {out}.",
        ]
    )
    others = tuple(text_file(f"{f}/{d.file('txt', 'csv')}", word_lines(d, 1, 1)) for f in folders)
    return Work(
        text,
        (f"find {top} -name {name} > {out}",),
        (holds(out, place), f"[ -f {place} ]"),
        (*others, text_file(place, word_lines(d, 1, 2))),
        (top,),
        (out,),
        ((f"find {top} -type f > {out}",), (f"echo {name} > {out}",), (f"mv {place} {out}",)),
        (f"cat {out}",),
        ways=((f"find {top} -type f | grep '/{name}$' > {out}",), (f"ls {top}/*/*/{name} > {out}",)),
    )


def gather(brief: Brief) -> Work:
    """Move all files of a kind from one folder into another."""
    d = brief.draw
    kind, other = d.rng.sample(["log", "csv", "md", "bak", "dat"], 2)
    here, shelf = d.nouns(2)
    names = [d.file(kind) for _ in range(d.number(2, 4))]
    moved = [text_file(f"{here}/{name}", word_lines(d, 1, 2)) for name in names]
    kept = [text_file(f"{here}/{d.file(other)}", word_lines(d, 1, 2)) for _ in range(d.number(1, 2))]
    there = text_file(f"{shelf}/{d.file('txt')}", word_lines(d, 1, 1))
    text = d.wording(
        [
            f"Move every .{kind} file of the folder {here} into the folder {shelf}",
            f"All files in {here} that end in .{kind} belong in the folder {shelf}.",
            f"The folder {shelf} is to have the files of {here} whose names end in .{kind}; move them there.",
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
        (f"{shelf}/{names[0]}",),
        (
            (f"mv {here}/* {shelf}/",),
            (f"mv {moved[0].path} {shelf}/",),
            (f"cat {here}/*.{kind} > {shelf}/{names[0]}", f"rm {here}/*.{kind}"),
        ),
        (f"ls {shelf}", f"ls {here} {shelf}"),
        ways=((f"mv ./{here}/*.{kind} {shelf}",), (f'for f in {here}/*.{kind}; do mv "$f" {shelf}/; done',)),
    )


def swap(brief: Brief) -> Work:
    """Let two files change names."""
    d = brief.draw
    a, b = (text_file(d.file("txt", "csv", "dat"), word_lines(d, 2, 3)) for _ in range(2))
    aside = d.file("tmp")
    text = d.wording(
        [
            f"Swap {a.path} and {b.path}: each is to hold what the other holds now",
            f"{a.path} and {b.path} have each other's name. Put that right.",
            f"Exchange the contents of {a.path} and {b.path}.",
        ]
    )
    return Work(
        text,
        (f"mv {a.path} {aside}", f"mv {b.path} {a.path}", f"mv {aside} {b.path}"),
        (holds(a.path, b.content), holds(b.path, a.content)),
        (a, b),
        (a.path, b.path),
        (),
        (
            (f"mv {a.path} {b.path}",),
            (f"cat {b.path} > {a.path}",),
            (f"mv {a.path} {aside}", f"mv {b.path} {a.path}"),
        ),
        (f"cat {a.path}", f"cat {b.path}"),
        ways=(
            (f"cat {a.path} > {aside}", f"mv {b.path} {a.path}", f"mv {aside} {b.path}"),
            (f"mv {b.path} {aside}", f"mv {a.path} {b.path}", f"mv {aside} {a.path}"),
        ),
    )


def tree(brief: Brief) -> Work:
    """Make folders within a folder, with an empty file in one of them."""
    d = brief.draw
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
        (f"[ -d {top}/{one} ]", f"[ -f {top}/{two}/{flag} ] && [ ! -s {top}/{two}/{flag} ]"),
        (),
        (),
        (f"{top}/{two}/{flag}",),
        (
            (f"mkdir -p {top}/{one} {top}/{two}",),
            (f"mkdir -p {top}/{one} {top}/{two}", f"touch {top}/{one}/{flag}"),
            (f"mkdir -p {one} {two}", f"touch {two}/{flag}"),
        ),
        (f"find {top} | sort", f"ls {top} {top}/{two}"),
        ways=((f"mkdir -p {top}/{two} {top}/{one}", f": > {top}/{two}/{flag}"),),
    )


AUTHORS: dict[str, Author] = {
    "files_empty": empty,
    "files_move": move,
    "files_names": names,
    "files_compress": compress,
    "files_note": note,
    "files_rename": rename,
    "files_remove": remove,
    "files_folder": folder,
    "files_shelve": shelve,
    "files_join": join,
    "files_find": find,
    "files_gather": gather,
    "files_swap": swap,
    "files_tree": tree,
    "files_copy": copy,
    "files_link": link,
}
