"""Mail: letters that are answered."""

from __future__ import annotations

from tiararodney.posix_sdc.archetypes.base import Author, Brief, Work, absent, holds, text_file


def answer(brief: Brief) -> Work:
    """Answer a letter, then file it."""
    d = brief.draw
    person, word = d.person(), d.noun()
    letter, reply = f"{person}.msg", f"re-{person}.msg"
    folder = d.noun()
    text = d.wording(
        [
            f"Answer {letter}: write '{word}' to {reply}, then move {letter} into {folder}",
            f"Write '{word}' to {reply} as the answer, and move {letter} to the folder {folder}.",
            f"{reply} is to say '{word}'. After that {letter} has to be moved to {folder}.",
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
    )


AUTHORS: dict[str, Author] = {"mail_answer": answer}
