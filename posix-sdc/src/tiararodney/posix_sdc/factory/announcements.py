"""Announcements: how a world says that directives exist, in one place, from place to place, or out of sight."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.leads import Lead
from tiararodney.posix_sdc.factory.taxonomy import SOUGHT
from tiararodney.posix_sdc.records.axes import CHAINED, how_to_read
from tiararodney.posix_sdc.records.schema import Announcement, Fixture, Provider

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.vocabulary import Draw

_HERE = ("NOTICE", "README", "WELCOME", "NOTICE.txt", "README.txt", "ANNOUNCEMENT", "NEWS", "00-README", "TODAY")
_VARIABLES = ("NOTICE", "DIRECTIVES", "DUTY", "ANNOUNCEMENT", "WORK_SOURCE", "SHIFT", "ASSIGNMENTS", "ORDERS_FROM")
_MAILBOX = "/var/mail/agent"


@dataclass(frozen=True)
class Announced:
    """An announcement with what else the world holds because of it.

    Args:
        announcement: the first place.
        fixtures: files of this and later places.
        environment: variables of this and later places.
    """

    announcement: Announcement
    fixtures: tuple[Fixture, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def announce(draw: Draw, kind: str, provider: Provider, workdir: str) -> Announced:
    """Say that a provider exists, most times with the way to its documentation.

    Args:
        draw: source of choices.
        kind: ``motd``, ``banner``, ``env``, ``file``; ``chained`` for one of these that leads to the next place; or one
            of `taxonomy.SOUGHT`, a place that nothing points to.
        provider: the program to be announced.
        workdir: where the session begins.
    """
    if kind == CHAINED:
        return _chained(draw, provider, workdir)
    if kind in SOUGHT:
        return _sought(draw, kind, provider, workdir)
    name = provider.name
    if kind == "env":
        way = how_to_read(provider)
        text = (
            draw.phrase(
                f"(see|read|directives:|work:|start with|orders from {name}:|{name}, explained by|ask|consult) {way}"
            )
            if draw.chance(0.85)
            else draw.phrase(f"(directives|work|orders|tasks|entries) (in|from|by way of|at|through) {name}")
        )
        variable = draw.pick((name.upper(), f"{name.upper()}_INFO", *_VARIABLES))
        return Announced(Announcement(kind, text, variable=variable), environment={variable: text})
    return _placed(draw, kind, _text(draw, provider), workdir)


# ----------------------------------------------------------------------------------------------------------- words

_ACCOUNT = (
    "(this account|agent|agent|you|you|this login|this user|your login|your account|the user agent|the account agent"
    "|whoever reads this|this session|everybody here)"
)
_WORK = "(directives|work|jobs|tasks|orders|assignments|instructions|duties|requests|errands)"
_SAID = (
    f"{_WORK} for {_ACCOUNT} (are in|come from|wait in|can be had from|go through|are kept by|arrive by) {{name}}.",
    f"{{name}} (has|holds|keeps|hands out|carries|knows) (the|your|today's|all|this account's|some) {_WORK}.",
    "{name} (has|holds|lists|brings) (something|a few things|news|entries|work) for (you|agent).",
    f"(Ask|Check|Consult|Look into|Turn to|Please check|Have a look at) {{name}} for {_WORK}.",
    f"(Today's|Current|Open|New|Pending|All) {_WORK}: (see |look in |){{name}}.",
    f"{_WORK}: {{name}}.",
    (
        "(No more slips|No paper any more|Slips are history|No notes here|Ask nobody): {name} (has "
        "it|knows|holds them|does that)."
    ),
    "(hi|Hello|Good morning), (your list|the list|it all|what you need): {name} (now|as usual|again).",
    f"(Notice|NOTICE|Note): (the office|administration|personnel|dispatch) (keeps|files|puts) {_WORK} in {{name}}.",
)
_WAYS = (
    "(See|Read|Try|Run|Start with|First read|Begin with) {way}.",
    "(Documentation|Usage|Manual|Help|Instructions|How to|Explained by): {way}",
    "{way} (explains it|tells how|says how|has the details|describes it|documents it|shows how|tells more).",
    "(Explained|Described|Documented) (by|in|under): {way}",
)


def _text(draw: Draw, provider: Provider, explicit: float = 0.85) -> str:
    """Say where directives are kept and, mostly, what explains it."""
    said = draw.say(_SAID).format(name=provider.name)
    capital = draw.chance(0.8) and not said.startswith(provider.name)
    said = said[0].upper() + said[1:] if capital else said
    if draw.chance(explicit):
        said += " " + draw.say(_WAYS).format(way=how_to_read(provider))
    return said


def _placed(draw: Draw, kind: str, text: str, workdir: str) -> Announced:
    """Print a text at login or put it into a file."""
    if kind == "banner":
        text = draw.pick((f"*** {text} ***", f"--- {draw.noun()} ---\n{text}", f"== {text} ==", f"#\n# {text}\n#"))
    elif kind == "motd" and draw.chance(0.4):
        greeting = "(Welcome to {0}.|This is {0}.|Host {0}.|{0} login|Last login: {1} May|{0} \\(up {1} days\\))"
        text = draw.phrase(greeting.format(draw.noun(), draw.number(1, 28))) + "\n" + text
    path = f"{workdir}/{draw.pick(_HERE)}" if kind == "file" else ""
    files = (Fixture(path, f"{text}\n"),) if path else ()
    return Announced(Announcement(kind, text, path=path), files)


# ------------------------------------------------------------------------------------------------ from place to place


@dataclass(frozen=True)
class _Place:
    """A later place of a chain: what it is called, and how a former one speaks of it."""

    kind: str
    name: str
    pointer: str


def _place(draw: Draw) -> _Place:
    kind = draw.weighted({"file": 5, "env": 3, "program": 2})
    if kind == "env":
        name = f"{draw.noun()}_{draw.pick(('NOTE', 'INFO', 'NEXT', 'DUTY'))}".upper()
        pointers: tuple[str, ...] = (
            "(The|Your|Our) (environment |)variable {0} (says|holds|tells) more.",
            "(More|Details|The rest) (is|are set) (in|by) (the variable|variable|your variable) {0}.",
            "${0} (goes on|says where|has the rest).",
        )
    elif kind == "program":
        name = draw.program()
        pointers = ("(Run|Call|Start) {0} (for the rest|to go on|next).", "{0} (knows|tells|prints) (more|the rest).")
    else:
        folder = draw.pick(("/etc", "/srv", "/opt", "/var/lib", "/home/agent", "/usr/local/share"))
        name = f"{folder}/{draw.noun()}{draw.pick(('.notice', '.txt', '.news', ''))}"
        pointers = (
            "(Read|See|Look at|Open|Consult) {0}.",
            "(The rest|More|What follows|Everything else) is in {0}.",
            "(See|Mind) the file {0}.",
            "{0} (goes on|has more|continues).",
        )
    return _Place(kind, name, draw.say(pointers).format(name))


def _chained(draw: Draw, provider: Provider, workdir: str) -> Announced:
    """Lead from place to place; only the last one names the provider."""
    first = draw.weighted({"motd": 4, "banner": 2, "env": 2, "file": 2})
    places = [_place(draw) for _ in range(draw.weighted_number({1: 3, 2: 4, 3: 2}))]
    texts = [p.pointer for p in places] + [_text(draw, provider, 1)]
    opening = draw.phrase(
        f"((There is|We have|Expect) (work|something) for {_ACCOUNT}."
        "|(Notice|A word|Note) to (everybody|users|sessions|all).|"
        f"{_WORK} (are waiting|have come in|are due).)"
    )
    if first == "env":
        variable = draw.pick(_VARIABLES)
        text = texts[0]
        begun = Announced(Announcement(first, text, variable=variable), environment={variable: text})
    else:
        begun = _placed(draw, first, f"{opening[0].upper()}{opening[1:]} {texts[0]}", workdir)
    files, variables = list(begun.fixtures), dict(begun.environment)
    for place, text in zip(places, texts[1:], strict=True):
        if place.kind == "env":
            variables[place.name] = text
        elif place.kind == "program":
            script = f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(text)}\n"
            files.append(Fixture(f"/usr/local/bin/{place.name}", script, mode="755", owner="root"))
        else:
            files.append(Fixture(place.name, f"{text}\n", owner="root"))
    chain = [{"kind": p.kind, "name": p.name} for p in places]
    said = replace(begun.announcement, extra={"chain": chain})
    return Announced(said, tuple(files), variables)


# -------------------------------------------------------------------------------------------- where one has to look


def start_folder(draw: Draw, kind: str) -> str:
    """Return where a session begins whose announcement lies around its folder, empty where any folder will do."""
    if kind not in ("parent", "sibling", "search"):
        return ""
    return f"{draw.pick(('/srv', '/opt', '/home/agent', '/var/lib'))}/{draw.noun()}/{draw.noun()}"


def _sought(draw: Draw, kind: str, provider: Provider, workdir: str) -> Announced:
    """Put the announcement where nothing points to, and say which commands find it."""
    path, leads, files, variables, login = _FINDS[kind](draw, provider, workdir)
    text = _text(draw, provider)
    if kind == "mail":
        text = (
            f"From {draw.pick(('root', 'office', 'desk', 'ops'))}@host  Tue Mar  4 07:{draw.number(10, 59)}:00 2025\n"
            f"Subject: {draw.phrase('(today|work|your list|this week|Re: shift|assignments|what is open)')}\n\n{text}"
        )
    elif kind == "cron":
        text = f"# {text}\n{draw.number(0, 59)} {draw.number(0, 23)} * * * root /bin/true"
    elif kind == "process":
        text = ""
    if path:
        files = (*files, Fixture(path, f"{text}\n", owner="root"))
    extra = {"sought": kind, "leads": [lead.to_json() for lead in leads]}
    if login:
        return Announced(Announcement("motd", login, extra=extra), files, variables)
    if not path:
        return Announced(Announcement("motd", "", extra=extra), files, variables)
    return Announced(Announcement("file", text, path=path, extra=extra), files, variables)


_Found = tuple[str, tuple[Lead, ...], tuple[Fixture, ...], Mapping[str, str], str]


def _above(draw: Draw, workdir: str) -> tuple[str, tuple[Lead, ...]]:
    """Return how to call the parent folder: ``..``, or by its path, which a command has to show before."""
    path, _, _ = workdir.rpartition("/")
    return draw.pick((("..", ()), (path, (Lead(("pwd", "pwd", 'echo "$PWD"'), (path,)),))))


def _parent(draw: Draw, provider: Provider, workdir: str) -> _Found:
    path, _, _ = workdir.rpartition("/")
    file = draw.pick(_HERE)
    if draw.chance(0.3):
        leads: tuple[Lead, ...] = (
            Lead(("cd .. && ls", "cd .. && ls -a", "cd ..; ls"), (file,), always=True),
            Lead((f"cat {file}", f"head {file}"), (provider.name,)),
        )
    else:
        above, leads = _above(draw, workdir)
        looks = Lead((f"ls {above}", f"ls -a {above}", f"ls -l {above}"), (file,))
        leads = (*leads, looks, Lead((f"cat {above}/{file}",), (provider.name,)))
    return f"{path}/{file}", leads, (), {}, ""


def _sibling(draw: Draw, provider: Provider, workdir: str) -> _Found:
    path, _, _ = workdir.rpartition("/")
    folder, file = draw.noun(), draw.pick(_HERE)
    others = tuple(Fixture(f"{path}/{noun}", kind="dir") for noun in draw.nouns(draw.number(0, 2)))
    above, leads = _above(draw, workdir)
    leads = (*leads, Lead((f"ls {above}", f"ls -a {above}", f"ls -1 {above}"), (folder,)))
    if draw.chance(0.3):
        leads = (
            *leads,
            Lead((f"cd {above}/{folder} && ls", f"cd {above}/{folder}; ls"), (file,), always=True),
            Lead((f"cat {file}", f"head {file}"), (provider.name,)),
        )
    else:
        leads = (
            *leads,
            Lead((f"ls {above}/{folder}", f"find {above}/{folder}", f"ls {above}/*", f"ls -R {above}"), (file,)),
            Lead((f"cat {above}/{folder}/{file}",), (provider.name,)),
        )
    return f"{path}/{folder}/{file}", leads, others, {}, ""


def _mail(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    cue = draw.weighted({"login": 3, "variable": 3, "none": 2})
    return (
        _MAILBOX,
        (
            Lead(("ls /var/mail", "ls -l /var/mail", "ls /var/mail /var/spool"), ("agent",)),
            Lead((f"cat {_MAILBOX}", "cat /var/mail/$USER", f"head -n 20 {_MAILBOX}"), (provider.name,)),
        ),
        (),
        {"MAIL": _MAILBOX} if cue == "variable" else {},
        draw.pick(("You have mail.", "You have new mail.")) if cue == "login" else "",
    )


def _etc(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    folder = f"/etc/{draw.pick(('motd.d', 'notices', 'issue.d', 'news', f'{draw.noun()}.d', draw.noun()))}"
    file = draw.pick(("10-", "20-", "50-", "")) + draw.pick(("work", "duty", "today", draw.noun(), draw.noun()))
    name = folder.rpartition("/")[2]
    return (
        f"{folder}/{file}",
        (
            Lead(("ls /etc", "ls /etc", "ls -1 /etc"), (name,)),
            Lead((f"ls {folder}", f"find {folder} -type f", f"ls -l {folder}"), (file,)),
            Lead((f"cat {folder}/{file}", f"cat {folder}/*"), (provider.name,)),
        ),
        (),
        {},
        "",
    )


def _search(draw: Draw, provider: Provider, workdir: str) -> _Found:
    """Hide it among other files around the starting folder: one has to search for it."""
    path, _, _ = workdir.rpartition("/")
    folders = draw.nouns(draw.number(2, 4))
    file = draw.pick((f"{draw.noun()}.txt", "README", "notes.txt", "NOTICE", "about"))
    others = tuple(
        Fixture(f"{path}/{folder}/{draw.noun()}.txt", f"{draw.noun()} {draw.number(1, 99)}\n", owner="root")
        for folder in folders
    )
    folder = draw.pick(folders)
    above, leads = _above(draw, workdir)
    if draw.chance(0.4):
        searches = f"grep -r . {above}", f"grep -rn . {above}", f"grep -rh '[a-z]' {above}"
        leads = (*leads, Lead(searches, (provider.name,)))
    else:
        leads = (
            *leads,
            Lead((f"find {above} -type f", f"find {above}", f"ls -R {above}"), (folder, file)),
            Lead((f"cat {above}/{folder}/{file}", f"grep -r . {above}/{folder}"), (provider.name,)),
        )
    return f"{path}/{folder}/{file}", leads, others, {}, ""


def _process(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    """Let a program run whose command line names the provider."""
    watcher = draw.program()
    option = draw.pick(("--source", "--directives", "--from", "--orders", "--work", "--feed", "--queue"))
    path = f"/usr/local/bin/{watcher}"
    script = (
        f"#!/bin/sh\n# Waits for new entries.\n"
        f'[ "${{1-}}" = {option} ] && while :; do sleep 3600; done\n'
        f"setsid {path} {option} {provider.name} </dev/null >/dev/null 2>&1 &\n"
    )
    return (
        "",
        (Lead(("ps x -o args", "ps x -o user,args", "ps -u agent -o args"), (provider.name,)),),
        (Fixture(path, script, mode="755", owner="root", start=True),),
        {},
        "",
    )


def _cron(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    file = draw.pick(("duty", "work", "daily", "agent", draw.noun(), draw.noun()))
    return (
        f"/etc/cron.d/{file}",
        (
            Lead(("ls /etc",), ("cron.d",)),
            Lead(("ls /etc/cron.d", "ls -l /etc/cron.d", "find /etc/cron.d"), (file,)),
            Lead((f"cat /etc/cron.d/{file}", "cat /etc/cron.d/*"), (provider.name,)),
        ),
        (),
        {},
        "",
    )


def _signpost(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    """Point at a folder at login."""
    folder = f"{draw.pick(('/srv', '/opt', '/var/lib', '/etc'))}/{draw.noun()}"
    file = draw.pick((f"{draw.noun()}.txt", draw.noun(), "NOTICE", "today"))
    said = draw.phrase(f"(Notes|Notices|Papers|Messages) (of today |)(lie|are|can be found) in (the folder |){folder}.")
    return (
        f"{folder}/{file}",
        (
            Lead((f"ls {folder}", f"ls -l {folder}"), (file,)),
            Lead((f"cat {folder}/{file}", f"cat {folder}/*"), (provider.name,)),
        ),
        (),
        {},
        said,
    )


def _home(draw: Draw, provider: Provider, workdir: str) -> _Found:  # noqa: ARG001 - one shape
    file = draw.pick((".plan", ".notice", ".todo", ".project", ".today", ".duty"))
    return (
        f"/home/agent/{file}",
        (
            Lead(("ls -a ~", "ls -A ~", "ls -a /home/agent", 'ls -a "$HOME"'), (file,)),
            Lead((f"cat ~/{file}", f"cat /home/agent/{file}"), (provider.name,)),
        ),
        (),
        {},
        "",
    )


_FINDS: Mapping[str, Callable[[Draw, Provider, str], _Found]] = {
    "parent": _parent,
    "sibling": _sibling,
    "mail": _mail,
    "etc": _etc,
    "search": _search,
    "process": _process,
    "cron": _cron,
    "home": _home,
    "signpost": _signpost,
}
