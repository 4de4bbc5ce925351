"""Announcements: how a world says that directives exist, in one place or from place to place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.providers.design import how_to_read
from tiararodney.posix_sdc.factory.taxonomy import CHAINED
from tiararodney.posix_sdc.records.schema import Announcement, Fixture, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.factory.vocabulary import Draw

_HERE = ("NOTICE", "README", "WELCOME", "NOTICE.txt", "README.txt", "ANNOUNCEMENT")


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
        kind: ``motd``, ``banner``, ``env``, ``file``, or ``chained`` for one of these that leads to the next place.
        provider: the program to be announced.
        workdir: where a file of the kind ``file`` lies.
    """
    if kind == CHAINED:
        return _chained(draw, provider, workdir)
    name = provider.name
    way = how_to_read(provider)
    explicit = draw.chance(0.85)
    if kind == "env":
        text = (
            draw.pick((f"see {way}", f"directives: {way}", f"{name}; documentation: {way}"))
            if explicit
            else f"directives in {name}"
        )
        variable = draw.pick(
            (name.upper(), "NOTICE", "DIRECTIVES", "DUTY", f"{name.upper()}_INFO", "ANNOUNCEMENT", "WORK_SOURCE")
        )
        return Announced(Announcement(kind, text, variable=variable), environment={variable: text})
    openings = (
        f"Directives for this session are kept by {name}.",
        f"New entries wait in {name}.",
        f"The program {name} holds the directives of this account.",
        f"Work for this account comes through {name}.",
        f"{name} has something for you.",
        f"Directives: {name}.",
    )
    closings = (f"Documentation: {way}", f"It is explained by {way}", f"See {way}", f"How to use it: {way}")
    text = draw.pick(openings) + (f" {draw.pick(closings)}" if explicit else "")
    return _placed(draw, kind, text, workdir)


def _placed(draw: Draw, kind: str, text: str, workdir: str) -> Announced:
    """Print a text at login or put it into a file."""
    if kind == "banner":
        text = draw.pick((f"*** {text} ***", f"--- {draw.noun()} ---\n{text}", f"== {text} =="))
    elif kind == "motd" and draw.chance(0.4):
        text = (
            draw.pick(
                (
                    f"Welcome to {draw.noun()}.",
                    f"Host {draw.noun()}, all quiet.",
                    f"Last login: {draw.number(1, 28)} May",
                )
            )
            + "\n"
            + text
        )
    path = f"{workdir}/{draw.pick(_HERE)}" if kind == "file" else ""
    files = (Fixture(path, f"{text}\n"),) if path else ()
    return Announced(Announcement(kind, text, path=path), files)


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
        return _Place(kind, name, draw.pick((f"The variable {name} says more.", f"More is in the variable {name}.")))
    if kind == "program":
        name = draw.program()
        return _Place(kind, name, draw.pick((f"Run {name} for the rest.", f"{name} tells the rest.")))
    folder = draw.pick(("/etc", "/srv", "/opt", "/var/lib", "/home/agent", "/usr/local/share"))
    path = f"{folder}/{draw.noun()}{draw.pick(('.notice', '.txt', '.news', ''))}"
    return _Place(kind, path, draw.pick((f"Read {path}.", f"The rest is in {path}.", f"See the file {path}.")))


def _chained(draw: Draw, provider: Provider, workdir: str) -> Announced:
    """Lead from place to place; only the last one names the provider."""
    first = draw.weighted({"motd": 4, "banner": 2, "env": 2, "file": 2})
    places = [_place(draw) for _ in range(draw.weighted_number({1: 3, 2: 4, 3: 2}))]
    way = how_to_read(provider)
    ending = draw.pick(
        (
            f"Directives are kept by {provider.name}. Documentation: {way}",
            f"{provider.name} holds the directives of this account. See {way}",
            f"Work comes through {provider.name}; it is explained by {way}",
        )
    )
    texts = [p.pointer for p in places] + [ending]
    opening = draw.pick(("There is work for this account.", "Directives are waiting.", "Notice to all sessions."))
    if first == "env":
        variable = draw.pick(("NOTICE", "DIRECTIVES", "DUTY", "ANNOUNCEMENT", "WORK_SOURCE"))
        text = texts[0]
        begun = Announced(Announcement(first, text, variable=variable), environment={variable: text})
    else:
        begun = _placed(draw, first, f"{opening} {texts[0]}", workdir)
    files, variables = list(begun.fixtures), dict(begun.environment)
    for place, text in zip(places, texts[1:], strict=True):
        if place.kind == "env":
            variables[place.name] = text
        elif place.kind == "program":
            script = f"#!/bin/sh\necho '{text}'\n"
            files.append(Fixture(f"/usr/local/bin/{place.name}", script, mode="755", owner="root"))
        else:
            files.append(Fixture(place.name, f"{text}\n", owner="root"))
    said = begun.announcement
    chain = [{"kind": p.kind, "name": p.name} for p in places]
    told = Announcement(said.kind, said.text, said.variable, said.path, {"chain": chain})
    return Announced(told, tuple(files), variables)
