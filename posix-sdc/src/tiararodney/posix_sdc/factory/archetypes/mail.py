"""Mail: letters that are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes.shapes import report
from tiararodney.posix_sdc.factory.checks import (
    Author,
    Request,
    Source,
    Work,
    absent,
    holds,
    listed,
    number_in,
    text_file,
    untouched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw
    from tiararodney.posix_sdc.records.schema import Fixture


def answer(request: Request) -> Work:
    """Answer a letter, then file it."""
    d = request.draw
    person, word = d.person(), d.noun()
    letter, reply = f"{person}.msg", f"re-{person}.msg"
    folder = d.noun()
    text = d.wording(
        [
            f"Answer {letter}: write '{word}' to {reply}, then move {letter} into {folder}",
            f"Write '{word}' to {reply} as the answer, and move {letter} to the folder {folder}.",
            f"{reply} (should|must|has to|ought to) say '{word}'. After that {letter} has to be moved to {folder}.",
        ]
    )
    given = text_file(letter, [f"From: {person}", f"Which word is it, {d.noun()} or {word}?"])
    old = text_file(f"{folder}/{d.person()}.msg", [f"From: {d.noun()}", "Thanks."])
    return Work(
        text,
        (f"echo '{word}' > {reply}", f"mv {letter} {folder}/"),
        (holds(reply, word), holds(f"{folder}/{letter}", given.content), absent(letter)),
        (given, old),
        (letter,),
        (),
        ((f"echo '{word}' > {reply}",), (f"mv {letter} {folder}/",), (f"touch {reply}", f"mv {letter} {folder}/")),
        (f"ls {folder}", "ls"),
        ways=((f"printf '%s\\n' '{word}' > {reply}", f"mv {letter} {folder}"),),
    )


def _letter(path: str, sender: str, subject: str, status: str = "read") -> Fixture:
    return text_file(
        path, [f"From: {sender}", f"Subject: {subject}", f"Status: {status}", "", f"It is about {subject}."]
    )


def _box(draw: Draw, folder: str, senders: Sequence[str], statuses: Sequence[str]) -> list[Fixture]:
    """Return letters named by number, one a sender."""
    numbers = sorted(draw.numbers(len(senders), 100, 999))
    return [
        _letter(f"{folder}/{n}.msg", sender, draw.noun(), status)
        for n, sender, status in zip(numbers, senders, statuses, strict=True)
    ]


def sort(request: Request) -> Work:
    """Move the letters of one sender into a folder."""
    d = request.draw
    inbox, shelf, wanted, *others = d.noun(), d.noun(), d.person(), d.person(), d.person()
    senders = [wanted] * 2 + others + [d.pick(others)]
    d.rng.shuffle(senders)
    letters = _box(d, inbox, senders, ["read"] * len(senders))
    kept = _letter(f"{shelf}/{d.number(10, 99)}.msg", d.pick(others), d.noun())
    mine = [f for f in letters if f"From: {wanted}\n" in f.content]
    rest = [f for f in letters if f not in mine]
    text = d.wording(
        [
            f"Move the letters from {wanted} out of {inbox} into the folder {shelf}",
            f"Every letter in {inbox} that comes from {wanted} (see its From line) belongs in {shelf}.",
            f"Sort the mail in {inbox}: what {wanted} wrote goes to the folder {shelf}, the rest stays.",
        ]
    )
    command = f"mv $(grep -l 'From: {wanted}' {inbox}/*.msg) {shelf}/"
    return Work(
        text,
        (command,),
        (
            *(holds(f"{shelf}/{f.path.rpartition('/')[2]}", f.content) for f in mine),
            *(absent(f.path) for f in mine),
            *map(untouched, (*rest, kept)),
        ),
        (*letters, kept),
        (inbox,),
        (),
        (
            (f"mv {inbox}/*.msg {shelf}/",),
            (f"mv {mine[0].path} {shelf}/",),
            (f"rm $(grep -l 'From: {wanted}' {inbox}/*)",),
        ),
        (f"ls {shelf}", f"grep From: {shelf}/*.msg"),
        ways=((f"grep -l '^From: {wanted}' {inbox}/*.msg | while read f; do mv $f {shelf}/; done",),),
    )


def unread(request: Request) -> Work:
    """Count the letters that nobody has read."""
    d = request.draw
    inbox, out = d.noun(), d.file("txt", "num")
    new, old = d.number(2, 3), d.number(1, 4)
    statuses = ["new"] * new + ["read"] * old
    d.rng.shuffle(statuses)
    letters = _box(d, inbox, [d.person() for _ in statuses], statuses)
    text = d.wording(
        [
            f"Count the letters in {inbox} with the line 'Status: new' and write the number to {out}",
            f"How many letters in {inbox} are new (Status: new)? The number goes to {out}.",
            f"{out} (has to|ought to|will) contain the number of unread letters in {inbox}; they say 'Status: new'.",
        ]
    )
    return report(
        text,
        letters,
        out,
        number_in(out, new),
        f"grep -l 'Status: new' {inbox}/*.msg | wc -l > {out}",
        near_misses=(
            f"ls {inbox} | wc -l > {out}",
            f"grep -c 'Status: new' {inbox}/*.msg > {out}",
            f"cat {inbox}/*.msg | wc -l > {out}",
        ),
        ways=(f"cat {inbox}/*.msg | grep -c '^Status: new' > {out}",),
    )


def subjects(request: Request) -> Work:
    """Write down the subjects of all letters."""
    d = request.draw
    inbox, out = d.noun(), d.file("txt", "list")
    people = [d.person() for _ in range(d.number(3, 5))]
    letters = _box(d, inbox, people, ["read"] * len(people))
    wanted = [f.content.split("Subject: ")[1].splitlines()[0] for f in letters]
    text = d.wording(
        [
            f"Write the subjects of the letters in {inbox} to {out}, only the subjects, one a line",
            f"Take what stands behind 'Subject: ' in each letter of {inbox} and list it in {out}.",
            f"Make a list {out} of the subjects of all letters in {inbox} (without the word Subject:).",
        ]
    )
    return report(
        text,
        letters,
        out,
        listed(out, wanted),
        f"sed -n 's/^Subject: //p' {inbox}/*.msg > {out}",
        near_misses=(
            f"grep Subject: {inbox}/*.msg > {out}",
            f"cat {inbox}/*.msg | grep Subject: > {out}",
            f"sed -n 's/^From: //p' {inbox}/*.msg > {out}",
        ),
        ways=(f"cat {inbox}/*.msg | grep '^Subject: ' | cut -d' ' -f2 > {out}",),
        result=Source(
            out,
            tuple(wanted),
            d.say(
                (
                    "The order is that of the files.",
                    "(Keep|Preserve) the order of the files.",
                    "(Order|Sequence): that of the files.",
                    "(They|These) (stand|come) (as|like) the files do.",
                )
            ),
        ),
    )


def forward(request: Request) -> Work:
    """Put a letter into the outgoing folder with a line for its reader, and mark the first one as answered."""
    d = request.draw
    inbox, outbox, sender, reader = d.noun(), d.noun(), d.person(), d.person()
    number = d.number(100, 999)
    letter = _letter(f"{inbox}/{number}.msg", sender, d.noun(), "new")
    old = _letter(f"{outbox}/{d.number(10, 99)}.msg", sender, d.noun())
    copy, mail = f"{outbox}/{number}.msg", letter.path
    text = d.wording(
        [
            f"Write 'To: {reader}' and below it all of {mail} to {copy}; then let {mail} say 'Status: forwarded'",
            f"{copy} has to hold 'To: {reader}', then all of {mail}. After that set the Status of {mail} to forwarded.",
            f"Forward {mail}: 'To: {reader}' and its text go to {copy}; then Status: new in {mail} becomes forwarded.",
        ]
    )
    first = f"{{ echo 'To: {reader}'; cat {letter.path}; }} > {copy}"
    second = f"sed -i 's/^Status: new/Status: forwarded/' {letter.path}"
    return Work(
        text,
        (first, second),
        (
            holds(copy, f"To: {reader}\n{letter.content}"),
            holds(letter.path, letter.content.replace("Status: new", "Status: forwarded")),
            untouched(old),
        ),
        (letter, old),
        (letter.path,),
        (copy,),
        ((first,), (second, first), (f"cat {letter.path} > {copy}", second)),
        (f"cat {copy}", f"grep Status {letter.path}"),
        ways=((f"(echo 'To: {reader}' && cat {letter.path}) > {copy}", second),),
    )


AUTHORS: dict[str, Author] = {
    "mail_answer": answer,
    "mail_sort": sort,
    "mail_unread": unread,
    "mail_subjects": subjects,
    "mail_forward": forward,
}
