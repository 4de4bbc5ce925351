"""Schedule: tables in the manner of cron."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, holds, text_file


def add(brief: Brief) -> Work:
    """Append a line to a schedule."""
    d = brief.draw
    path = d.file("cron", "tab", "schedule")
    jobs = d.nouns(3)
    before = [f"{d.number(0, 59)} {d.number(0, 23)} * * * {job}" for job in jobs[:-1]]
    line = f"{d.number(0, 59)} {d.number(0, 23)} * * {d.pick(('*', '1', '5'))} {jobs[-1]}"
    text = d.wording(
        [
            f"Add the line '{line}' to {path}",
            f"Append '{line}' to {path}.",
            f"{path} lacks the line '{line}': add it at the end.",
        ]
    )
    return Work(
        text,
        (f"echo '{line}' >> {path}",),
        (holds(path, [*before, line]),),
        (text_file(path, before),),
        (path,),
        (),
        (
            (f"echo '{line}' > {path}",),
            (f"echo {jobs[-1]} >> {path}",),
            (f"echo '{line} ' >> {path}; echo x >> {path}",),
        ),
        (f"cat {path}",),
    )


AUTHORS: dict[str, Author] = {"schedule_add": add}
