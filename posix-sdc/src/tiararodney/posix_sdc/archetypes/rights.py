"""Rights: permission bits."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, mode_is, text_file, untouched, word_lines


def mode(brief: Brief) -> Work:
    """Set a file's mode."""
    d = brief.draw
    path = d.file("txt", "key", "csv", "conf")
    wanted, before, wrong = d.rng.sample(["600", "640", "644", "660", "664", "400", "440", "444", "700", "755"], 3)
    text = d.wording(
        [
            f"Set the mode of {path} to {wanted}",
            f"{path} needs the permissions {wanted}.",
            f"Change the permissions of {path} to {wanted}.",
            f"The mode of {path} has to be {wanted}",
        ]
    )
    given = text_file(path, word_lines(d, 1, 3), mode=before)
    return Work(
        text,
        (f"chmod {wanted} {path}",),
        (mode_is(path, wanted), untouched(given)),
        (given,),
        (path,),
        (),
        (
            (f"chmod {wrong} {path}",),
            (f"rm -f {path}", f"touch {path}", f"chmod {wanted} {path}"),
            (f"chmod {wanted} .",),
        ),
        (f"ls -l {path}",),
    )


def script(brief: Brief) -> Work:
    """Write a script of one line and make it executable."""
    d = brief.draw
    path, word = d.file("sh"), d.noun()
    text = d.wording(
        [
            f"Write a script {path} that runs echo {word}, and make it executable",
            f"{path} is to be an executable script with the line: echo {word}",
            f"Create {path} with the command echo {word} in it. It has to be executable.",
        ]
    )
    return Work(
        text,
        (f"echo 'echo {word}' > {path}", f"chmod +x {path}"),
        (f"[ -x {path} ]", f'[ "$(/bin/sh {path})" = {word} ]', f"grep -q echo {path}"),
        (),
        (),
        (path,),
        (
            (f"echo 'echo {word}' > {path}",),
            (f"echo {word} > {path}", f"chmod +x {path}"),
            (f"touch {path}", f"chmod +x {path}"),
        ),
        (f"sh {path}", f"ls -l {path}"),
    )


AUTHORS: dict[str, Author] = {"rights_mode": mode, "rights_script": script}
