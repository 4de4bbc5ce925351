"""Archives: tar files, packed and unpacked."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file, untouched, word_lines


def pack(brief: Brief) -> Work:
    """Pack a folder into a compressed archive."""
    d = brief.draw
    folder, out = d.noun(), f"{d.noun()}.tar.gz"
    one, two = (
        text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2)),
        text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2)),
    )
    text = d.wording(
        [
            f"Pack the folder {folder} into {out}",
            f"Make a compressed archive {out} of the folder {folder}.",
            f"{out} is to be a gzipped tar of {folder}.",
        ]
    )
    listed = f"tar tzf {out} 2>/dev/null | grep -qx"
    return Work(
        text,
        (f"tar czf {out} {folder}",),
        (f"{listed} {one.path}", f"{listed} {two.path}", untouched(one), untouched(two)),
        (one, two),
        (folder,),
        (out,),
        ((f"tar cf {out} {folder}",), (f"touch {out}",), (f"tar czf {out} {one.path}",)),
        (f"tar tzf {out}", "ls"),
    )


def unpack(brief: Brief) -> Work:
    """Unpack a shell archive: a script that writes its files when run."""
    d = brief.draw
    path, out = d.file("shar"), d.file("txt")
    lines = word_lines(d, 2, 3)
    text = d.wording(
        [
            f"{path} is a shell archive: unpack it with sh",
            f"Unpack the shell archive {path} by running sh on it.",
            f"Run sh on {path}; it unpacks the files that are wanted here.",
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
    )


AUTHORS: dict[str, Author] = {"archive_pack": pack, "archive_unpack": unpack}
