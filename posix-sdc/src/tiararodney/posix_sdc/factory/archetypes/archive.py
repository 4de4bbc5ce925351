"""Archives: tar files, packed, listed and unpacked."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Request,
    Source,
    Work,
    absent,
    holds,
    listed,
    q,
    text_file,
    untouched,
    word_lines,
)
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw

_BLOCK = 512  # bytes, of a tar file


def _tar(path: str, members: Sequence[Fixture]) -> Fixture:
    """Return a tar file, uncompressed: its bytes are text, which is what a fixture can hold."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member in members:
            data = member.content.encode()
            info = tarfile.TarInfo(member.path)
            info.size, info.mode, info.mtime = len(data), 0o644, 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
    # tar pads to twenty blocks; two empty ones are the end of an archive.
    size = sum(_BLOCK + -(-len(m.content.encode()) // _BLOCK) * _BLOCK for m in members) + 2 * _BLOCK
    return Fixture(path, out.getvalue()[:size].decode())


def _members(draw: Draw, folder: str) -> list[Fixture]:
    return [text_file(f"{folder}/{draw.file('txt', 'csv')}", word_lines(draw, 1, 2)) for _ in range(draw.number(2, 3))]


def _is_compressed(path: str) -> Check:
    return Check(f"{path} is compressed with gzip", f"gzip -t {path}", (f"gzip -dc {path} > raw; mv raw {path}",))


def _member(path: str, name: str) -> str:
    """Return sh that prints one member of an archive, packed with or without ``./`` before its name."""
    return f"{{ tar xOf {path} {q(name)} || tar xOf {path} {q(f'./{name}')}; }}"


def _packs(path: str, folder: str, members: Sequence[Fixture]) -> Check:
    """Return a check that an archive holds these files with their contents, and no others."""
    inside = [f'[ "$({_member(path, m.path)})" = {q(m.content.rstrip())} ]' for m in members]
    names = chr(10).join(sorted(m.path for m in members))
    listed = f"tar tf {path} | sed 's,^\\./,,' | grep -v '/$' | LC_ALL=C sort"
    emptied = f"for f in {folder}/*; do cat $f > keep.$$; : > $f; tar czf {path} {folder}; cat keep.$$ > $f; done"
    test = " && ".join([f"[ -f {path} ]", f'[ "$({listed})" = {q(names)} ]', *inside])
    return Check(f"{path} holds the files of {folder} with their contents, and no others", test, (emptied,))


def pack(request: Request) -> Work:
    """Pack a folder into a compressed archive."""
    d = request.draw
    folder, out = d.noun(), f"{d.noun()}.tar.gz"
    one, two = (
        text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2)),
        text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2)),
    )
    text = d.wording(
        [
            f"Pack the folder {folder} into {out}",
            f"Make a compressed archive {out} of the folder {folder}.",
            f"{out} (should|must|has to|ought to) be a gzipped tar of {folder}.",
        ]
    )
    return Work(
        text,
        (f"tar czf {out} {folder}",),
        (_is_compressed(out), _packs(out, folder, (one, two)), untouched(one), untouched(two)),
        (one, two),
        (folder,),
        (out,),
        ((f"tar cf {out} {folder}",), (f"touch {out}",), (f"tar czf {out} {one.path}",)),
        (f"tar tzf {out}", "ls"),
        ways=((f"tar -c -z -f {out} {folder}",), (f"tar cf - {folder} | gzip > {out}",)),
    )


def unpack(request: Request) -> Work:
    """Unpack a shell archive: a script that writes its files when run."""
    d = request.draw
    path, out = d.file("shar"), d.file("txt")
    lines = word_lines(d, 2, 3)
    text = d.wording(
        [
            f"{path} is a shell archive: (unpack it with|let it unpack itself with|hand it to|feed it to) sh",
            f"(Unpack|Extract) the shell archive {path} by (running sh on it|handing it to sh|means of sh).",
            f"(Run|Use) sh on {path}; (it unpacks|that unpacks) (the files that are wanted|what we need) here.",
        ]
    )
    body = [f"cat > {out} <<'END'", *lines, "END"]
    given = text_file(path, body)
    return Work(
        text,
        (f"sh {path}",),
        (holds(out, lines), untouched(given)),
        (given,),
        (path,),
        (out,),
        ((f"cat {path} > {out}",), (f"touch {out}",), (f"mv {path} {out}",)),
        ("ls", f"cat {out}"),
        ways=((f"sh ./{path}",), (f"sh < {path}",)),
    )


def extract(request: Request) -> Work:
    """Unpack a tar file."""
    d = request.draw
    path, folder = d.file("tar"), d.noun()
    members = _members(d, folder)
    text = d.wording(
        [
            f"Unpack {path} here",
            f"Extract all files of the archive {path} in this folder.",
            (
                f"(What {path} holds|The content of {path}|All that {path} contains) should (lie|end up) "
                "beside it, unpacked."
            ),
        ]
    )
    return Work(
        text,
        (f"tar xf {path}",),
        tuple(holds(m.path, m.content) for m in members),
        (_tar(path, members),),
        (path,),
        tuple(m.path for m in members),
        ((f"tar tf {path}",), (f"tar xf {path} {members[0].path}",), (f"mkdir {folder}", f"mv {path} {folder}/")),
        (f"ls {folder}",),
        ways=((f"tar -x -f {path}",), (f"tar xvf {path}",)),
    )


def member(request: Request) -> Work:
    """Take one file out of a tar file."""
    d = request.draw
    path, folder, out = d.file("tar"), d.noun(), d.file("txt", "out")
    members = _members(d, folder)
    wanted = d.pick(members)
    text = d.wording(
        [
            (
                f"Write {wanted.path}, (which is|packed|to be found) in (the archive|archive) {path}, to "
                f"{out}; unpack nothing else"
            ),
            (
                f"{out} should hold what {wanted.path} says in (the archive|archive) {path}. (Leave|Keep) "
                "the other files packed."
            ),
            (
                f"(Take|Get) {wanted.path} out of {path} and save it as {out}, (without unpacking the "
                "rest|but unpack nothing besides|and leave the rest packed)."
            ),
        ]
    )
    rest = [m for m in members if m is not wanted]
    return Work(
        text,
        (f"tar xOf {path} {wanted.path} > {out}",),
        (holds(out, wanted.content), *(absent(m.path) for m in rest)),
        (_tar(path, members),),
        (path,),
        (out,),
        (
            (f"tar xOf {path} > {out}",),
            (f"tar xf {path}", f"mv {wanted.path} {out}"),
            (f"tar tf {path} > {out}",),
        ),
        (f"cat {out}",),
        ways=(
            (f"tar -x -O -f {path} {wanted.path} > {out}",),
            (f"tar xf {path} {wanted.path}; mv {wanted.path} {out}",),
        ),
        result=Source(out, tuple(wanted.content.splitlines())),
    )


def contents(request: Request) -> Work:
    """Write down what is in a tar file."""
    d = request.draw
    path, folder, out = d.file("tar"), d.noun(), d.file("txt", "list")
    members = _members(d, folder)
    text = d.wording(
        [
            f"Write the names of the files in (the archive|archive) {path} to {out}; (do not|never) unpack it",
            f"{out} (should|must|has to|ought to) list what the archive {path} holds. Leave it packed.",
            f"Save the table of contents of {path} in {out} without unpacking anything.",
        ]
    )
    return Work(
        text,
        (f"tar tf {path} > {out}",),
        (listed(out, [m.path for m in members]), absent(folder)),
        (_tar(path, members),),
        (path,),
        (out,),
        ((f"tar tvf {path} > {out}",), (f"tar xf {path}", f"ls {folder} > {out}"), (f"ls {path} > {out}",)),
        (f"cat {out}",),
        ways=((f"tar -tf {path} > {out}",), (f"tar --list --file={path} > {out}",)),
        result=Source(
            out,
            tuple(m.path for m in members),
            d.say(
                (
                    "The order is that of the archive.",
                    "(Keep|Preserve) the order of the archive.",
                    "(Order|Sequence): as in the archive.",
                    "(They|The names) (stand|come) as the archive has them.",
                )
            ),
        ),
    )


def _holds_member(path: str, member: Fixture) -> Check:
    test = f'[ -f {path} ] && [ "$({_member(path, member.path)})" = {q(member.content.rstrip())} ]'
    return Check(f"{member.path} is in {path} with its content", test, (f"tar --delete -f {path} {member.path}",))


def add(request: Request) -> Work:
    """Put one more file into a tar file, then remove it from the folder."""
    d = request.draw
    path, folder, more = d.file("tar"), d.noun(), d.file("txt", "csv")
    members, given = _members(d, folder), text_file(more, word_lines(d, 1, 2))
    text = d.wording(
        [
            f"(Add|Append) {more} to (the archive|the tar file|archive) {path}, (then|and then) (delete|remove) {more}",
            (
                f"{more} belongs into (the archive|archive) {path}, (beside|besides) what is "
                "(there|inside) already; (afterwards|then) (it has to go|delete it here)."
            ),
            f"Append {more} to {path} and remove the file itself.",
        ]
    )
    return Work(
        text,
        (f"tar rf {path} {more}", f"rm {more}"),
        (
            *(_holds_member(path, m) for m in (*members, given)),
            absent(more),
        ),
        (_tar(path, members), given),
        (path, more),
        (),
        ((f"tar rf {path} {more}",), (f"rm {more}",), (f"tar cf {path} {more}", f"rm {more}")),
        (f"tar tf {path}", "ls"),
        ways=((f"tar -r -f {path} {more}", f"rm {more}"), (f"tar --append -f {path} {more}", f"rm -f {more}")),
    )


AUTHORS: dict[str, Author] = {
    "archive_pack": pack,
    "archive_unpack": unpack,
    "archive_extract": extract,
    "archive_member": member,
    "archive_contents": contents,
    "archive_add": add,
}
