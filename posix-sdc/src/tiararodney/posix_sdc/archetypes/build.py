"""Build: scripts that are run and may fail."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file, untouched, word_lines

FAILURES = ("licence has expired", "no space left in the pool", "compiler is missing", "lock is held by another host")


def run(brief: Brief) -> Work:
    """Run a script that makes a file out of another."""
    d = brief.draw
    script, out = d.file("sh"), d.file("txt", "out", "bin")
    result = " ".join(d.nouns(2))
    text = d.wording(
        [
            f"Run {script}; it makes {out}",
            f"{out} has to be built by running {script}.",
            f"Build {out}: run the script {script}.",
        ]
    )
    why = d.pick(FAILURES)
    body = (
        [f'echo "{script}: {why}" >&2', "exit 3"]
        if brief.failing
        else [f"echo '{result}' > {out}", f"echo built {out}"]
    )
    given = text_file(script, body)
    return Work(
        text,
        (f"sh {script}",),
        (holds(out, result), untouched(given)),
        (given,),
        (script,),
        (out,),
        ((f"touch {out}",), (f"cat {script} > {out}",), (f"echo {out} > {out}",)),
        (f"cat {out}", "ls"),
        why if brief.failing else "",
    )


def chain(brief: Brief) -> Work:
    """Run a script, then move what it made."""
    d = brief.draw
    script, out, folder = d.file("sh"), d.file("txt", "out"), d.noun()
    lines = word_lines(d, 1, 2)
    text = d.wording(
        [
            f"Run {script}, then move {out}, which it makes, into the folder {folder}",
            f"{script} makes {out}. Run it and move {out} to the folder {folder}.",
            f"Build {out} with {script} and move it to the folder {folder}.",
        ]
    )
    why = d.pick(FAILURES)
    body = [f'echo "{script}: {why}" >&2', "exit 3"] if brief.failing else [f"cat > {out} <<END", *lines, "END"]
    given = text_file(script, body)
    kept = text_file(f"{folder}/{d.file()}", word_lines(d, 1, 2))
    return Work(
        text,
        (f"sh {script}", f"mv {out} {folder}/"),
        (holds(f"{folder}/{out}", lines), f"[ ! -e {out} ]", untouched(kept)),
        (given, kept),
        (script,),
        (f"{folder}/{out}",),
        ((f"sh {script}",), (f"touch {folder}/{out}",), (f"sh {script}", f"cat {out} > {folder}/{out}")),
        (f"ls {folder}",),
        why if brief.failing else "",
    )


AUTHORS: dict[str, Author] = {"build_run": run, "build_chain": chain}
