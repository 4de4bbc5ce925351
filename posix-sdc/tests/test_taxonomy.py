"""The axes cover what the issues ask for, and every archetype has its author."""

from collections import Counter

from tiararodney.posix_sdc.archetypes import AUTHORS
from tiararodney.posix_sdc.generate import generate
from tiararodney.posix_sdc.schema import ANNOUNCEMENT_KINDS, DOCUMENTATION_KINDS
from tiararodney.posix_sdc.taxonomy import ARCHETYPES, BLOCKS, DEPTHS, PROVIDERS, archetypes_of


def test_every_archetype_has_an_author_and_every_author_an_archetype():
    assert set(AUTHORS) == {a.name for a in ARCHETYPES}
    assert len({a.name for a in ARCHETYPES}) == len(ARCHETYPES)


def test_training_and_holdout_are_wide_enough():
    train, holdout = archetypes_of("train"), archetypes_of("holdout")
    assert len(train) >= 16
    assert len({a.family for a in train}) >= 6
    assert len({a.family for a in holdout}) >= 3


def test_every_archetype_can_be_blocked_so_that_panic_is_not_told_by_the_work():
    assert all(a.blocks and set(a.blocks) <= set(BLOCKS) for a in ARCHETYPES)


def test_a_thousand_scenarios_show_every_value_of_every_axis():
    scenarios = [*generate(800, 0), *generate(200, 0, "holdout")]
    assert {s.archetype for s in scenarios} == set(AUTHORS)
    assert {s.provider.kind for s in scenarios} == {p.name for p in PROVIDERS}
    assert {s.provider.documentation for s in scenarios} == set(DOCUMENTATION_KINDS)
    assert {s.announcement.kind for s in scenarios} == set(ANNOUNCEMENT_KINDS)
    assert {s.extra["block"] for s in scenarios} == {"", *BLOCKS}
    assert {s.extra["depth"] for s in scenarios} == set(DEPTHS)


def test_every_block_meets_every_archetype_that_takes_it():
    for a in ARCHETYPES:
        assert {s.extra["block"] for s in generate(200, 1, a.split, [a.name])} == {"", *a.blocks}, a.name


def test_panic_worlds_are_between_8_and_15_per_cent():
    terminals = Counter(s.terminal for s in generate(1000, 0))
    assert 80 <= terminals["panic"] <= 150
