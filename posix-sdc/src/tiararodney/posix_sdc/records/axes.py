"""Read the axes along which worlds vary from a scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Announcement, Provider, Scenario

TOOLS = "tool"  # the family whose archetypes are kinds of invented utilities
CHAINED = "chained"  # an announcement that leads to the next place, which says more


def family_of(archetype: str) -> str:
    """Return the family an archetype's name belongs to."""
    return archetype.partition("_")[0]


def announcement_kind(announcement: Announcement) -> str:
    """Return ``chained`` for an announcement that leads on, how one that is looked for is hidden, else its kind."""
    if announcement.extra.get("sought"):
        return str(announcement.extra["sought"])
    return CHAINED if announcement.extra.get("chain") else announcement.kind


def level_of(scenario: Scenario) -> int:
    """Return how many commands of work a scenario's directives take, or would take in a panic world.

    Bundles of other makers do not state it: there it is the length of the reference solution.
    """
    stated = [int(d.extra["level"]) for d in scenario.directives if "level" in d.extra]
    return sum(stated) or len(scenario.reference_solution)


def block_of(scenario: Scenario) -> str:
    """Return what blocks a panic world, see `BLOCKS`; empty where nothing does."""
    works = [work for d in scenario.directives for work in d.extra.get("works", (d.extra,))]
    return next((str(work["block"]) for work in works if work.get("block")), "")


def skills_of(scenario: Scenario) -> list[str]:
    """Return the archetypes of a scenario's pieces of work, in their order; its own where the bundle names none."""
    works = [str(w["archetype"]) for d in scenario.directives for w in d.extra.get("works", ()) if "archetype" in w]
    return works or [scenario.archetype]


def chains_of(scenario: Scenario) -> list[tuple[str, ...]]:
    """Return a scenario's compositions: archetypes of which each begins with the file that the one before it makes."""
    chains: list[tuple[str, ...]] = []
    for work in (w for d in scenario.directives for w in d.extra.get("works", ()) if "archetype" in w):
        if work.get("chained") and chains:
            chains[-1] = (*chains[-1], str(work["archetype"]))
        else:
            chains.append((str(work["archetype"]),))
    return [chain for chain in chains if len(chain) > 1]


def place_of(scenario: Scenario) -> str:
    """Return where the work lies: ``here``, ``named`` by the directive, or to be ``found``."""
    places = [d.extra["place"] for d in scenario.directives if "place" in d.extra]
    return "here" if not places else "found" if any(place.get("leads") for place in places) else "named"


def depth_of(scenario: Scenario) -> str:
    """Return how much the provider's documentation says, empty where the bundle does not state it."""
    return str(scenario.provider.extra.get("depth", ""))


def herrings_of(scenario: Scenario) -> tuple[str, ...]:
    """Return the sorts of red herrings in a world."""
    return tuple(scenario.provider.extra.get("herrings", ()))


def how_to_read(provider: Provider) -> str:
    """Return the command that prints a provider's documentation."""
    return {"help": f"{provider.name} --help", "man": f"man {provider.name}", "usage": provider.name}[
        provider.documentation
    ]
