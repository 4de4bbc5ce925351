"""Files: single ones, made, named, joined and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Form,
    Request,
    Source,
    Work,
    absent,
    check_by_form,
    holds,
    is_empty,
    is_file,
    other_results,
    q,
    source_untouched,
    starting_file,
    text_file,
    untouched,
    word_lines,
)

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Fixture


def note(request: Request) -> Work:
    """Write one line into a new file."""
    d = request.draw
    out = d.file("txt", "md", "note")
    line = " ".join(d.nouns(d.number(1, 4)))
    text = d.wording(
        [
            f"Write '{line}' to {out}",
            f"Create a file {out} that says '{line}'.",
            f"{out} (needs|gets|receives) the line '{line}'.",
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


def rename(request: Request) -> Work:
    """Rename a file."""
    d = request.draw
    old, new = d.file("txt", "csv", "dat"), d.file("txt", "csv", "dat")
    text = d.wording(
        [
            f"Rename {old} to {new}",
            f"{old} (should|must|has to|ought to) be called {new} from now on.",
            f"Give {old} the new name {new}.",
            f"The file {old} has the wrong name: it should be {new}",
        ]
    )
    given = text_file(old, word_lines(d, 2, 4))
    return Work(
        text,
        (f"mv {old} {new}",),
        (holds(new, given.content), is_file(new), absent(old)),
        (given,),
        (old,),
        (new,),
        ((f"cat {old} > {new}",), (f"rm {old}",), (f"rm {old}", f"touch {new}")),
        ("ls", f"ls {new}"),
        ways=((f"mv ./{old} ./{new}",), (f"mv -n {old} {new}",)),
    )


def remove(request: Request) -> Work:
    """Delete one file and no other."""
    d = request.draw
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


def join(request: Request) -> Work:
    """Join two files into a third."""
    d = request.draw
    a, given = starting_file(request, text_file(d.file("txt", "csv"), word_lines(d, 2, 3)))
    one, two, out = a.path, d.file("txt", "csv"), d.file("txt", "all")
    text = d.wording(
        [
            f"Join {one} and {two}, (in this order|the former first|in that order), into {out}",
            f"{out} (must|should) contain {one} followed by {two}.",
            f"Put {one} and then {two} together (in one file|in a single file|as one file) {out}.",
        ]
    )
    b = text_file(two, word_lines(d, 2, 3))
    wanted = (a.content + b.content).splitlines()

    def of(form: Form) -> list[str]:
        """Return what cat makes of them: two lines run together where the first file has no newline at its end."""
        return ("\n".join(form.lines) + ("\n" if form.ended else "") + b.content).splitlines()

    return Work(
        text,
        (f"cat {one} {two} > {out}",),
        (
            check_by_form(request.source, holds(out, wanted), lambda form: holds(out, of(form))),
            source_untouched(request.source, a),
            untouched(b),
        ),
        (*given, b),
        (one, two),
        (out,),
        ((f"cat {two} {one} > {out}",), (f"cat {one} > {out}",), (f"cat {two} > {out}",)),
        (f"cat {out}",),
        ways=((f"cat {one} > {out}; cat {two} >> {out}",), (f"sed '' {one} {two} > {out}",)),
        result=Source(out, tuple(wanted), others=other_results(request.source, wanted, of)),
    )


def _same_as(source: Source | None, file: Fixture, path: str) -> Check:
    """Return a check that a path holds what the file holds that work starts from."""
    return check_by_form(source, holds(path, file.content), lambda form: holds(path, form.lines))


def copy(request: Request) -> Work:
    """Copy a file under a new name."""
    d = request.draw
    file, fixtures = starting_file(request, text_file(d.file("txt", "csv", "dat"), word_lines(d, 3, 5)))
    old, new = file.path, d.file("txt", "csv", "bak")
    text = d.wording(
        [
            f"Copy {old} to {new}",
            f"Make a copy of {old} named {new}.",
            f"We want a second copy of {old} under the name {new}.",
            f"{new} (should|must|has to|ought to) be a copy of {old}",
        ]
    )
    return Work(
        text,
        (f"cp {old} {new}",),
        (_same_as(request.source, file, new), is_file(new), source_untouched(request.source, file)),
        fixtures,
        (old,),
        (new,),
        ((f"mv {old} {new}",), (f"touch {new}",), (f"ln -s {old} {new}",)),
        (f"cat {new}", "ls"),
    )


def _is_link(name: str) -> Check:
    broken = f"mv {name} {name}.aside; cat {name}.aside > {name}"
    return Check(f"{name} is a symbolic link", f"[ -L {name} ]", (broken,))


def link(request: Request) -> Work:
    """Make a symbolic link."""
    d = request.draw
    given, fixtures = starting_file(request, text_file(d.file("txt", "conf", "dat"), word_lines(d, 2, 4)))
    target, name = given.path, d.noun()
    text = d.wording(
        [
            f"Make a symbolic link {name} that points to {target}",
            f"{name} (should|must|has to|ought to) be a symbolic link to {target}.",
            f"Create a symlink named {name} to {target}.",
        ]
    )
    return Work(
        text,
        (f"ln -s {target} {name}",),
        (_is_link(name), _same_as(request.source, given, name), source_untouched(request.source, given)),
        fixtures,
        (),
        (name,),
        ((f"cat {target} > {name}",), (f"ln {target} {name}",), (f"mv {target} {name}",)),
        (f"readlink {name}",),
    )


def empty(request: Request) -> Work:
    """Make an empty file."""
    d = request.draw
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
        (is_empty(out),),
        (),
        (),
        (out,),
        ((f"mkdir {out}",), (f"echo empty > {out}",), (f"touch {out}x",)),
        ("ls", f"ls {out}"),
        ways=((f": > {out}",), (f"> {out}",)),
    )


def _holds_compressed(path: str, content: str) -> Check:
    test = f'[ -f {path} ] && [ "$(gzip -dc {path} | head -c 65536)" = {q(content.rstrip())} ]'
    return Check(f"{path} has the right content, compressed", test, (f"echo other | gzip > {path}",))


def compress(request: Request) -> Work:
    """Compress a file with gzip."""
    d = request.draw
    path = d.file("txt", "log", "csv")
    text = d.wording(
        [
            f"Compress {path} with gzip, so that only {path}.gz is left",
            f"Gzip {path}: afterwards there is {path}.gz, and no {path} any more.",
            f"{path} (should|must|has to|ought to) become {path}.gz",
            f"Turn {path} into {path}.gz, compressed.",
        ]
    )
    given = text_file(path, word_lines(d, 3, 5))
    return Work(
        text,
        (f"gzip {path}",),
        (_holds_compressed(f"{path}.gz", given.content), absent(path)),
        (given,),
        (path,),
        (f"{path}.gz",),
        ((f"mv {path} {path}.gz",), (f"gzip -c {path} > {path}.gz",), (f"rm {path}",)),
        ("ls",),
        ways=((f"gzip -9 {path}",), (f"gzip ./{path}",)),
    )


def swap(request: Request) -> Work:
    """Let two files change names."""
    d = request.draw
    a, b = (text_file(d.file("txt", "csv", "dat"), word_lines(d, 2, 3)) for _ in range(2))
    aside = "swap.tmp"  # which everybody may call as they like
    text = d.wording(
        [
            f"Swap {a.path} and {b.path}: each (has to|ought to) hold what the other holds now",
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


AUTHORS: dict[str, Author] = {
    "files_empty": empty,
    "files_compress": compress,
    "files_note": note,
    "files_rename": rename,
    "files_remove": remove,
    "files_join": join,
    "files_swap": swap,
    "files_copy": copy,
    "files_link": link,
}
