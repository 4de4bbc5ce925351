"""Tickets: one file each, with a head of fields."""

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
    text_file,
    untouched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.vocabulary import Draw
    from tiararodney.posix_sdc.records.schema import Fixture


def _ticket(path: str, title: str, owner: str, state: str = "open") -> Fixture:
    return text_file(path, [f"title: {title}", f"owner: {owner}", f"state: {state}", f"The {title} needs a look."])


def _desk(draw: Draw, folder: str, states: Sequence[str]) -> list[Fixture]:
    numbers = sorted(draw.numbers(len(states), 100, 999))
    owners = [draw.person() for _ in range(2)]
    return [
        _ticket(f"{folder}/t{n}", draw.noun(), draw.pick(owners), state)
        for n, state in zip(numbers, states, strict=True)
    ]


def close(request: Request) -> Work:
    """Close a ticket and move it to those that are closed."""
    d = request.draw
    desk, shelf = d.nouns(2)
    tickets = _desk(d, desk, ["open"] * d.number(2, 3))
    mine, *rest = d.rng.sample(tickets, len(tickets))
    number = mine.path.rpartition("/")[2]
    kept = _ticket(f"{shelf}/t{d.number(10, 99)}", d.noun(), d.person(), "closed")
    text = d.wording(
        [
            (
                f"Close the ticket {mine.path}: set its state to closed and (move|transfer) (it|the file) "
                f"to the folder {shelf}"
            ),
            f"The ticket {number} in {desk} is done. Let it say 'state: closed' and move it into {shelf}.",
            f"{mine.path} has to be closed (state: closed) and filed in {shelf}.",
        ]
    )
    return Work(
        text,
        (f"sed -i 's/^state: open/state: closed/' {mine.path}", f"mv {mine.path} {shelf}/"),
        (
            holds(f"{shelf}/{number}", mine.content.replace("state: open", "state: closed")),
            absent(mine.path),
            *map(untouched, (*rest, kept)),
        ),
        (*tickets, kept),
        (mine.path,),
        (f"{shelf}/{number}",),
        (
            (f"mv {mine.path} {shelf}/",),
            (f"sed -i 's/^state: open/state: closed/' {mine.path}",),
            (f"sed -i 's/^state: open/state: closed/' {desk}/*", f"mv {mine.path} {shelf}/"),
        ),
        (f"cat {shelf}/{number}", f"ls {desk} {shelf}"),
        ways=(
            (f"sed -i 's/^state:.*/state: closed/' {mine.path}", f"mv {mine.path} {shelf}"),
            (f"mv {mine.path} {shelf}/", f"sed -i 's/^state: open/state: closed/' {shelf}/{number}"),
        ),
    )


def assign(request: Request) -> Work:
    """Give a ticket, found by its title, to somebody else."""
    d = request.draw
    desk, owner = d.noun(), d.person()
    tickets = _desk(d, desk, ["open"] * d.number(3, 4))
    mine = d.pick(tickets)
    title = mine.content.splitlines()[0].removeprefix("title: ")
    before = mine.content.splitlines()[1]
    text = d.wording(
        [
            f"Make {owner} the owner of the ticket in {desk} whose title is {title}",
            f"One of the tickets in {desk} has the title {title}: its owner has to be {owner} from now on.",
            f"Assign the ticket about {title} (see the titles in {desk}) to {owner}: change its owner line.",
        ]
    )
    edit = f"s/^owner: .*/owner: {owner}/"
    return Work(
        text,
        (f"sed -i '{edit}' $(grep -l 'title: {title}' {desk}/*)",),
        (
            holds(mine.path, mine.content.replace(before, f"owner: {owner}")),
            *(untouched(f) for f in tickets if f is not mine),
        ),
        tuple(tickets),
        (desk,),
        (),
        (
            (f"sed -i '{edit}' {desk}/*",),
            (f"echo 'owner: {owner}' >> {mine.path}",),
            (f"sed -i '/^owner/d' {mine.path}",),
        ),
        (f"grep owner {desk}/*", f"cat {mine.path}"),
        ways=((f"grep -l 'title: {title}' {desk}/* | xargs sed -i '{edit}'",),),
    )


def still_open(request: Request) -> Work:
    """Write down which tickets are open."""
    d = request.draw
    desk, out = d.noun(), d.file("txt", "list")
    states = ["open"] * d.number(2, 3) + ["closed"] * d.number(1, 3)
    d.rng.shuffle(states)
    tickets = _desk(d, desk, states)
    wanted = [f.path for f in tickets if "state: open" in f.content]
    text = d.wording(
        [
            f"Write the paths ({desk}/...) of the tickets in {desk} that are open to {out}",
            f"{out} (should|must|has to|ought to) list the files in {desk} that say 'state: open', as {desk}/NAME.",
            f"Which tickets in {desk} are still open? (Save|Note|List) (their|the) paths, {desk}/NAME, in {out}.",
        ]
    )
    return report(
        text,
        tickets,
        out,
        listed(out, wanted),
        f"grep -l 'state: open' {desk}/* > {out}",
        near_misses=(f"ls {desk} > {out}", f"grep 'state: open' {desk}/* > {out}", f"ls {desk}/* > {out}"),
        ways=(f"grep -l '^state: open$' {desk}/* > {out}",),
        result=Source(
            out,
            tuple(wanted),
            d.say(
                (
                    "They (have to|must) be in alphabetical order.",
                    "(Sort|Order) them alphabetically.",
                    "(Order|Sequence): alphabetical.",
                )
            ),
        ),
    )


def purge(request: Request) -> Work:
    """Delete the tickets that are closed."""
    d = request.draw
    desk = d.noun()
    states = ["open"] * d.number(1, 2) + ["closed"] * d.number(2, 3)
    d.rng.shuffle(states)
    tickets = _desk(d, desk, states)
    gone = [f for f in tickets if "state: closed" in f.content]
    text = d.wording(
        [
            f"Delete the tickets in {desk} that are closed",
            f"Tickets in {desk} with 'state: closed' are not needed any more: remove them, and no others.",
            f"Clear {desk} of closed tickets; those that are open stay.",
        ]
    )
    return Work(
        text,
        (f"rm $(grep -l 'state: closed' {desk}/*)",),
        (*(absent(f.path) for f in gone), *(untouched(f) for f in tickets if f not in gone)),
        tuple(tickets),
        (desk,),
        (),
        ((f"rm {desk}/*",), (f"rm {gone[0].path}",), (f"sed -i 's/closed/open/' {desk}/*",)),
        (f"ls {desk}", f"grep state {desk}/*"),
        ways=((f"grep -l 'state: closed' {desk}/* | xargs rm",),),
    )


AUTHORS: dict[str, Author] = {
    "ticket_close": close,
    "ticket_assign": assign,
    "ticket_open": still_open,
    "ticket_purge": purge,
}
