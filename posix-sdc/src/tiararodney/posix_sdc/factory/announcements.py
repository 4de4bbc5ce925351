"""Announcements: how a world says that directives exist: outright, by naming a place to go to, or out of sight."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.leads import Lead
from tiararodney.posix_sdc.factory.taxonomy import NAMED, SOUGHT
from tiararodney.posix_sdc.records.axes import CHAINED, how_to_read
from tiararodney.posix_sdc.records.schema import Announcement, Fixture, Provider

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.vocabulary import Draw

_HERE = ("NOTICE", "README", "WELCOME", "NOTICE.txt", "README.txt", "ANNOUNCEMENT", "NEWS", "00-README", "TODAY")
_VARIABLES = ("NOTICE", "DIRECTIVES", "DUTY", "ANNOUNCEMENT", "WORK_SOURCE", "SHIFT", "ASSIGNMENTS", "ORDERS_FROM")
_USER = "agent"  # the account that sessions have
_MAILBOX = f"/var/mail/{_USER}"
_CARRIERS = {"motd": 4, "banner": 2, "env": 2, "file": 2}  # what an announcement that leads elsewhere is printed by


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
        kind: ``motd``, ``banner``, ``env``, ``file``; ``chained`` for one of these that leads to the next place; one
            of `taxonomy.NAMED`, for one of these that names a place; or of `taxonomy.SOUGHT`, a place that nothing
            points to.
        provider: the program to be announced.
        workdir: where the session begins.
    """
    if kind == CHAINED:
        return _chained(draw, provider, workdir)
    if kind in NAMED:
        return _named(draw, kind, provider, workdir)
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
_SEVERAL = "(directives|jobs|tasks|orders|assignments|instructions|duties|requests|errands)"
_WORK = f"(work|{_SEVERAL[1:]}"
_SAID = (
    f"{_SEVERAL} for {_ACCOUNT} (are in|come from|wait in|can be had from|go through|are kept by|arrive by) {{name}}.",
    f"{{name}} (has|holds|keeps|hands out|carries|knows) (the|your|today's|all|this account's|some) {_WORK}.",
    "{name} (has|holds|lists|brings) (something|a few things|news|entries|work) for (you|agent).",
    f"(Ask|Check|Consult|Look into|Turn to|Please check|Have a look at) {{name}} for {_WORK}.",
    f"(Today's|Current|Open|New|Pending|All) {_WORK}: (see |look in |){{name}}.",
    f"{_WORK}: {{name}}.",
    (
        "(There are no slips any more|We no longer use paper|Paper slips are gone|No notes are kept here|Nothing is on "
        "paper now): (use|ask|see|turn to|look in) {name}( now| instead|)."
    ),
    (
        "(hi|Hello|Good morning), (your list|today's list|this week's list|what you need) is "
        "(now |as usual |again |)in {name}."
    ),
    f"(Notice|NOTICE|Note): (the office|administration|personnel|dispatch) (keeps|files|puts) {_WORK} in {{name}}.",
)
_WAYS = (
    "(See|Read|Try|Run|Start with|First read|Begin with) {way}.",
    "(Documentation|Usage|Manual|Help|Instructions|How to|Explained by): {way}",
    "{way} (explains it|tells how|says how|has the details|describes it|documents it|shows how|tells more).",
    "(Explained|Described|Documented) (by|in): {way}",
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
    """Print a text at login, or put it into a file or a variable."""
    if kind == "env":
        variable = draw.pick(_VARIABLES)
        return Announced(Announcement(kind, text, variable=variable), environment={variable: text})
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
            "(More is|Details are|The rest is) in (the variable|variable|your variable) {0}.",
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
    first = draw.weighted(_CARRIERS)
    places = [_place(draw) for _ in range(draw.weighted_number({1: 3, 2: 4, 3: 2}))]
    texts = [p.pointer for p in places] + [_text(draw, provider, 1)]
    opening = draw.phrase(
        f"((There is|We have|Expect) (work|something) for {_ACCOUNT}."
        "|(Notice|A word|Note) to (everybody|users|sessions|all).|"
        f"{_SEVERAL} (are waiting|have arrived|are due).)"
    )
    text = texts[0] if first == "env" else f"{opening[0].upper()}{opening[1:]} {texts[0]}"
    start = _placed(draw, first, text, workdir)
    files, variables = list(start.fixtures), dict(start.environment)
    for place, text in zip(places, texts[1:], strict=True):
        if place.kind == "env":
            variables[place.name] = text
        elif place.kind == "program":
            script = f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(text)}\n"
            files.append(Fixture(f"/usr/local/bin/{place.name}", script, mode="755", owner="root"))
        else:
            files.append(Fixture(place.name, f"{text}\n", owner="root"))
    chain = [{"kind": p.kind, "name": p.name} for p in places]
    said = replace(start.announcement, extra={"chain": chain})
    return Announced(said, tuple(files), variables)


# ------------------------------------------------------------------------------- a place that the announcement names

_TOPS = ("/srv", "/opt", "/var/lib", "/etc", "/usr/local/share")
_FOLDER_SAID = (
    (
        "(Notes|Notices|Papers|Messages|Letters)( for today| for this account|) (lie|are|wait|can be found) in"
        "( the folder| the directory|) {0}."
    ),
    "(Look|Please look|Have a look|Go) (into|inside) {0}( first| before anything else| when you start| to begin with).",
    f"{{0}} (has|holds|keeps) (a note|a paper|some lines|a few words) for {_ACCOUNT}.",
    "(What is new|The latest news|Today's notice) (lies|is|can be read) in {0}.",
    "(Folder|Directory) (for|of) (this account|agent|new sessions): {0}",
    "(We|The office|The desk) moved (the notices|all notices|the notes|our papers) to {0}.",
    "(Nothing is posted here|Notices are no longer printed here)(: see|; look in|. Try) {0}.",
    "(Before you begin|At the start|First of all)(, open|, go to|: see) {0}.",
    "{0} is where (notes|notices|papers) (are left|are put|lie)( now| these days|).",
)
_FILE_SAID = (
    "(Read|See|Open|Please read|Have a look at) {0}( first| before you start| to begin with|).",
    "{0} (says|tells you|explains) (what is new|more|what you should know|the rest).",
    f"(A note|A notice|A paper|Word) for {_ACCOUNT} (is|was left|can be found) in {{0}}.",
    "(Today's notice|The notice of the day|This week's notice|The current notice)(: | is |: see ){0}",
    "(This text moved|The notice is no longer here)(: see|; it is in|. Look at) {0}.",
    "(The office|The desk|Dispatch|A colleague) (left|put|wrote) (something|a note|a few lines)( for you|) in {0}.",
    "(File|Notice|Note): {0}",
)
_SPOOL_SAID = (
    "(Notices|Notes|Messages|Letters) (come in|arrive|are dropped|queue up) in {0}( now| these days|).",
    "(New|Incoming|Fresh) (notices|messages|notes) (land in|end up in|are put into) {0}.",
    "(Spool|Tray|Inbox|In-tray): {0}",
    "(The tray|The spool|The in-tray|The inbox) (of|for) (this account|agent|this login) is {0}.",
    f"{{0}} (collects|gathers|takes) (messages for|notes for|what people write to) {_ACCOUNT}.",
    "(There are|You have|We put) (a few|several|some) (messages|notes|slips) in {0}.",
)
_ABOVE_SAID = (
    (
        "(A note|A notice|A paper) (hangs|lies|is|was left) (one folder up|in the folder above|in the parent folder"
        "|one level up|in the folder that holds this one)."
    ),
    "(Look one folder up|Look in the parent folder|Go up one level|Go to the folder above)( first| for the rest|).",
    (
        "(The parent folder|The folder above|The folder that this one is in) (has|holds|keeps) "
        f"(a note|the notice|a paper|news) for {_ACCOUNT}."
    ),
    "(Notices|Notes|Papers) (are kept|lie|hang) (one folder up|a level up|in the parent directory|above this folder).",
)
_CABINET_SAID = (
    "(Notices|Papers|Notes) are (sorted into|filed in|kept in) the (drawers|subfolders|sections|compartments) of {0}.",
    (
        "(Each|Every) (subject|topic|office) has (a|its own) (drawer|folder|section) in {0}; one has a note for"
        f" {_ACCOUNT}."
    ),
    "(Look|Search) through the (drawers|folders|sections) (of|in|under) {0}.",
)
_SLIPS_SAID = (
    "(Slips|Notes|Letters) (lie|are|wait) in {0}, one for (each|every) (account|user|login).",
    "(Each|Every) (account|user|login) has a (slip|note|letter|page) in {0}.",
    "(Find|Take|Read) your own (slip|note|letter|page) in {0}.",
    "{0}: (a slip|one note|a page) (per|for each) (account|user|login)",
)
# What other files of a place say, which is nobody's work.
_ASIDE = (
    "The (lift|printer|scanner|north door) is out of order until (Monday|Friday).",
    "(Lunch|The meeting|The fire drill) is at (11|12|13):(00|30) on Friday.",
    "(Found|Lost): (an umbrella|a red scarf|a bunch of keys).",
    "The (backup|update) comes (tonight|on Sunday); (delays|short breaks) are likely.",
)


@dataclass(frozen=True)
class _Named:
    """A place that an announcement names.

    Args:
        said: what the announcement says of it.
        path: of the file in it that names the provider.
        leads: what finds that file.
        others: further files of the place.
    """

    said: str
    path: str
    leads: tuple[Lead, ...]
    others: tuple[Fixture, ...] = ()


def _named(draw: Draw, kind: str, provider: Provider, workdir: str) -> Announced:
    """Name a place; a file there names the provider."""
    place = _PLACES[kind](draw, provider, workdir)
    start = _placed(draw, draw.weighted(_CARRIERS), place.said, workdir)
    extra = {"sought": kind, "named": True, "leads": [lead.to_json() for lead in place.leads]}
    file = Fixture(place.path, f"{_text(draw, provider)}\n", owner="root")
    said = replace(start.announcement, extra=extra)
    return replace(start, announcement=said, fixtures=(*start.fixtures, *place.others, file))


def _aside(draw: Draw, path: str) -> Fixture:
    return Fixture(path, f"{draw.say(_ASIDE)}\n", owner="root")


def _folder(draw: Draw, provider: Provider, workdir: str) -> _Named:  # noqa: ARG001 - one shape
    """Name a folder in which one file lies."""
    folder = f"{draw.pick(_TOPS)}/{draw.noun()}"
    file = draw.pick((f"{draw.noun()}.txt", draw.noun(), draw.pick(_HERE)))
    leads = (
        Lead((f"ls {folder}", f"ls -l {folder}"), (file,), always=True),
        Lead((f"cat {folder}/{file}", f"cat {folder}/*"), (provider.name,)),
    )
    return _Named(draw.say(_FOLDER_SAID).format(folder), f"{folder}/{file}", leads)


def _notice(draw: Draw, provider: Provider, workdir: str) -> _Named:  # noqa: ARG001 - one shape
    """Name a file."""
    path = f"{draw.pick(_TOPS)}/{draw.noun()}{draw.pick(('.txt', '.notice', '.note', '.news', ''))}"
    leads = (Lead((f"cat {path}", f"cat {path}", f"head {path}"), (provider.name,)),)
    return _Named(draw.say(_FILE_SAID).format(path), path, leads)


def _spool(draw: Draw, provider: Provider, workdir: str) -> _Named:  # noqa: ARG001 - one shape
    """Name a folder of several files, any of which may be the one."""
    folder = f"{draw.pick(('/var/spool', *_TOPS))}/{draw.noun()}"
    n = draw.number(2, 3)
    ending = draw.pick(("", ".msg", ".note", ".txt"))
    names = [f"{i:03d}{ending}" for i in sorted(draw.numbers(n, 1, 60))] if draw.chance(0.5) else draw.nouns(n)
    paths = [f"{folder}/{name}" for name in names]
    wanted = draw.pick(paths)
    leads = (
        Lead((f"ls {folder}", f"ls -l {folder}"), tuple(names), always=True),
        Lead((f"cat {folder}/*", *(f"cat {path}" for path in paths)), (provider.name,)),
    )
    others = tuple(_aside(draw, path) for path in paths if path != wanted)
    return _Named(draw.say(_SPOOL_SAID).format(folder), wanted, leads, others)


def _above_here(draw: Draw, provider: Provider, workdir: str) -> _Named:
    """Describe the parent folder."""
    file = draw.pick((f"{draw.noun()}.txt", f"{draw.noun()}.note", draw.noun()))
    leads = (
        Lead(("ls ..", "ls -a .."), (file,), always=True),
        Lead((f"cat ../{file}",), (provider.name,)),
    )
    return _Named(draw.say(_ABOVE_SAID), f"{workdir.rpartition('/')[0]}/{file}", leads)


def _cabinet(draw: Draw, provider: Provider, workdir: str) -> _Named:  # noqa: ARG001 - one shape
    """Name a folder of folders, in any of which the file may be."""
    folder = f"{draw.pick(_TOPS)}/{draw.noun()}"
    drawers = draw.nouns(draw.number(2, 3))
    names = [draw.pick((f"{draw.noun()}.txt", draw.noun())) for _ in drawers]
    paths = [f"{folder}/{drawer}/{name}" for drawer, name in zip(drawers, names, strict=True)]
    wanted = draw.pick(paths)
    leads = (
        Lead((f"ls {folder}",), tuple(drawers), always=True),
        Lead((f"ls {folder}/*", f"find {folder} -type f", f"ls -R {folder}"), tuple(names), always=True),
        Lead((f"cat {folder}/*/*", f"grep -r . {folder}", *(f"cat {path}" for path in paths)), (provider.name,)),
    )
    others = tuple(_aside(draw, path) for path in paths if path != wanted)
    return _Named(draw.say(_CABINET_SAID).format(folder), wanted, leads, others)


def _slips(draw: Draw, provider: Provider, workdir: str) -> _Named:  # noqa: ARG001 - one shape
    """Name a folder with a file for each account."""
    folder = f"{draw.pick(_TOPS)}/{draw.noun()}"
    leads = (
        Lead((f"ls {folder}", f"ls -l {folder}"), (_USER,), always=True),
        Lead((f"cat {folder}/{_USER}",), (provider.name,)),
    )
    others = tuple(_aside(draw, f"{folder}/{draw.person()}") for _ in range(draw.number(1, 3)))
    return _Named(draw.say(_SLIPS_SAID).format(folder), f"{folder}/{_USER}", leads, others)


_PLACES: Mapping[str, Callable[[Draw, Provider, str], _Named]] = {
    "folder": _folder,
    "notice": _notice,
    "spool": _spool,
    "above": _above_here,
    "cabinet": _cabinet,
    "slips": _slips,
}


# -------------------------------------------------------------------------------------------- where one has to look


def start_folder(draw: Draw, kind: str) -> str:
    """Return where a session begins whose announcement lies around its folder, empty where any folder will do."""
    if kind not in ("parent", "sibling", "search", "above"):
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
            Lead(("ls /var/mail", "ls -l /var/mail", "ls /var/mail /var/spool"), (_USER,)),
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
}
