"""Schedule: tables in the manner of cron."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.shapes import edit, report
from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Source,
    Work,
    holds,
    holds_one_of,
    listed,
    same_lines,
    text_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.factory.vocabulary import Draw


def add(request: Request) -> Work:
    """Append a line to a schedule."""
    d = request.draw
    path = d.file("cron", "tab", "schedule")
    jobs = d.nouns(3)
    before = [f"{d.number(0, 59)} {d.number(0, 23)} * * * {job}" for job in jobs[:-1]]
    line = f"{d.number(0, 59)} {d.number(0, 23)} * * {d.pick(('*', '1', '5'))} {jobs[-1]}"
    text = d.wording(
        [
            f"(Add|Enter) the line '{line}' (to|in|at the end of) {path}",
            f"Append '{line}' to {path}.",
            (
                f"{path} (lacks|needs|is missing) the line '{line}'(: add it below the rest|, as its last "
                "one|; it comes last)."
            ),
        ]
    )
    return edit(
        text,
        text_file(path, before),
        holds(path, [*before, line]),
        f"echo '{line}' >> {path}",
        near_misses=(
            f"echo '{line}' > {path}",
            f"echo {jobs[-1]} >> {path}",
            f"echo '{line} ' >> {path}; echo x >> {path}",
        ),
        verify=(f"cat {path}",),
        ways=(f'echo "{line}" >> {path}', f"printf '%s\\n' '{line}' >> {path}"),
    )


def _table(draw: Draw) -> dict[str, tuple[int, int]]:
    """Return jobs with minute and hour, no hour twice."""
    jobs = draw.nouns(draw.number(3, 5))
    hours = draw.numbers(len(jobs), 1, 22)
    return {job: (draw.number(1, 59), hour) for job, hour in zip(jobs, hours, strict=True)}


def _rows(table: Mapping[str, tuple[int, int]]) -> list[str]:
    return [f"{minute} {hour} * * * {job}" for job, (minute, hour) in table.items()]


def shift(request: Request) -> Work:
    """Let a job run at another hour."""
    d = request.draw
    path, table = d.file("cron", "tab", "schedule"), _table(d)
    job = d.pick(list(table))
    minute, before = table[job]
    hour = d.pick([h for h in range(1, 23) if h not in {x for _, x in table.values()}])
    text = d.wording(
        [
            f"{job} has to run at {hour}:{minute:02} instead of {before}:{minute:02}: change its line in {path}",
            f"Move the job {job} in {path} from the hour {before} to the hour {hour}; its minute stays.",
            f"In {path} the hour of {job} should be {hour}, not {before}. Change nothing else.",
        ]
    )
    return edit(
        text,
        text_file(path, _rows(table)),
        same_lines(path, _rows(table | {job: (minute, hour)})),
        f"sed -i '/ {job}$/s/^{minute} {before} /{minute} {hour} /' {path}",
        near_misses=(
            f"echo '{minute} {hour} * * * {job}' >> {path}",
            f"sed -i 's/^[0-9]* [0-9]* /{minute} {hour} /' {path}",
            f"sed -i '/ {job}$/s/^{minute} {before} /{hour} {minute} /' {path}",
        ),
        verify=(f"cat {path}", f"grep {job} {path}"),
        ways=(f"sed -i 's/^{minute} {before} \\(.*\\) {job}$/{minute} {hour} \\1 {job}/' {path}",),
    )


def pause(request: Request) -> Work:
    """Comment a job out."""
    d = request.draw
    path, table = d.file("cron", "tab", "schedule"), _table(d)
    job = d.pick(list(table))
    after = [f"#{row}" if row.endswith(f" {job}") else row for row in _rows(table)]
    text = d.wording(
        [
            (
                f"(Put|Set|Write) a # (in front of|before) the (line|entry) (for|with|about) {job} in "
                f"{path}(, so that it does not run|)"
            ),
            (
                f"(The job {job}|{job}) (has to pause|is suspended|should not run): (comment it out in "
                f"{path}|its line in {path} gets|in {path} it needs) (with a|a leading|the) #."
            ),
            f"Comment out {job} in {path}.",
        ]
    )
    return edit(
        text,
        text_file(path, _rows(table)),
        holds_one_of(path, [after, [row.replace("#", "# ") for row in after]]),
        f"sed -i '/ {job}$/s/^/#/' {path}",
        near_misses=(f"sed -i '/ {job}$/d' {path}", f"sed -i 's/^/#/' {path}", f"echo '#{job}' >> {path}"),
        verify=(f"cat {path}", f"grep {job} {path}"),
        ways=(f"sed -i 's/^.* {job}$/#&/' {path}",),
    )


def due(request: Request) -> Work:
    """Write down which jobs run at an hour."""
    d = request.draw
    path, out, table = d.file("cron", "tab"), d.file("txt", "list"), _table(d)
    hour = d.pick([h for _, h in table.values()])
    more = d.nouns(2)
    table |= {job: (minute, hour) for job, minute in zip(more, (d.number(1, 20), d.number(30, 59)), strict=True)}
    jobs = [job for job, (_, h) in table.items() if h == hour]
    text = d.wording(
        [
            f"Which jobs of {path} run in the hour {hour}? Write their names to {out}, one a line",
            f"{out} (should|must) list the names of the jobs in {path} whose hour (the second column) is {hour}.",
            f"Save the names of all jobs that {path} runs at {hour} o'clock in {out}. The hour is the second column.",
        ]
    )
    given = text_file(path, _rows(table))
    return report(
        text,
        (given,),
        out,
        listed(out, jobs),
        f"awk '$2 == {hour} {{ print $6 }}' {path} > {out}",
        near_misses=(
            f"awk '$2 == {hour}' {path} > {out}",
            f"cut -d' ' -f6 {path} > {out}",
            f"awk '$1 == {hour} {{ print $6 }}' {path} > {out}",
        ),
        ways=(f"sed -n 's/^[^ ]* {hour} .* //p' {path} > {out}",),
        result=Source(
            out,
            tuple(jobs),
            d.say(
                (
                    "(Keep|Preserve) the order of the table.",
                    "(They|The names) (stay|stand) in the table's order.",
                    "(Order|Sequence): as in the table.",
                )
            ),
        ),
    )


AUTHORS: dict[str, Author] = {
    "schedule_add": add,
    "schedule_shift": shift,
    "schedule_pause": pause,
    "schedule_due": due,
}
