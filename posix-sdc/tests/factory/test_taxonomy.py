"""The axes cover what the issues ask for, and every archetype has its author."""

import random
import re
from collections import Counter

import pytest

from tiararodney.posix_sdc.factory.archetypes import AUTHORS, FOLLOWS
from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.compose import piece
from tiararodney.posix_sdc.factory.herrings import HERRINGS
from tiararodney.posix_sdc.factory.taxonomy import (
    ARCHETYPES,
    BLOCKS,
    COURSES,
    DEPTHS,
    FIRST,
    HELD_OUT,
    NAMED,
    PROVIDERS,
    SOUGHT,
    announcements_of,
    archetypes_of,
    held_out_in,
    providers_of,
)
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.records.axes import CHAINED, announcement_kind, block_of, depth_of, herrings_of, level_of
from tiararodney.posix_sdc.records.schema import ANNOUNCEMENT_KINDS, DOCUMENTATION_KINDS


def test_every_archetype_has_an_author_and_every_author_an_archetype():
    assert set(AUTHORS) == {a.name for a in ARCHETYPES}
    assert len({a.name for a in ARCHETYPES}) == len(ARCHETYPES)
    assert set(AUTHORS) >= FOLLOWS


def test_training_and_holdout_are_wide_enough():
    train = archetypes_of("train")
    assert len(train) >= 90
    assert len({a.family for a in train}) >= 14
    assert min(Counter(a.family for a in train).values()) >= 4


def test_some_families_are_held_out_whole():
    trained = {a.family for a in archetypes_of("train")}
    strange = [a.name for a in archetypes_of("holdout") if a.family not in trained]
    assert len(strange) >= 4


def test_every_archetype_can_be_blocked_so_that_panic_is_not_told_by_the_work():
    assert all(a.blocks and set(a.blocks) <= set(BLOCKS) for a in ARCHETYPES)


@pytest.fixture(scope="module")
def thousand():
    return [*generate(1000, 0), *generate(100, 0, "holdout")]


def test_a_thousand_scenarios_show_every_value_of_every_axis(thousand):
    assert {s.archetype for s in thousand} == set(AUTHORS)
    assert {s.provider.kind for s in thousand} == {p.name for p in PROVIDERS}
    assert {s.provider.documentation for s in thousand} == set(DOCUMENTATION_KINDS)
    assert {announcement_kind(s.announcement) for s in thousand} == {*ANNOUNCEMENT_KINDS, CHAINED, *NAMED, *SOUGHT}
    assert {block_of(s) for s in thousand} == {"", *BLOCKS}
    assert {depth_of(s) for s in thousand} == set(DEPTHS)
    assert {level_of(s) for s in thousand} >= set(range(1, 11))
    assert {kind for s in thousand for kind in herrings_of(s)} == set(HERRINGS)


@pytest.mark.parametrize("archetype", ARCHETYPES, ids=lambda a: a.name)
def test_every_block_meets_every_archetype_that_takes_it(archetype):
    for block in archetype.blocks:
        blocked = piece(Draw(random.Random(block)), archetype, block)
        assert (blocked.block, bool(blocked.reason)) == (block, True)
        assert blocked.near_misses


def test_panic_worlds_are_between_8_and_15_per_cent(thousand):
    assert 0.08 <= sum(s.terminal == "panic" for s in thousand) / len(thousand) <= 0.15


def test_documentation_goes_from_a_line_to_pages(thousand):
    lengths = {depth: [] for depth in DEPTHS}
    for s in thousand:
        page = next(f.content for f in s.provider.files if f.path.endswith(("/doc", ".txt")))
        lengths[depth_of(s)].append(page.count("\n"))
    assert min(lengths["line"]) <= 3
    assert min(lengths["pages"]) >= 60
    assert max(lengths["short"]) < min(lengths["pages"])


def test_the_first_course_is_plain():
    scenarios = list(generate(400, 0, course="first"))
    assert {s.archetype for s in scenarios} == {a.name for a in archetypes_of("train") if a.weight}
    assert max(map(level_of, scenarios)) <= 4
    assert {announcement_kind(s.announcement) for s in scenarios} == set(announcements_of(FIRST, "train"))
    assert {herrings_of(s) for s in scenarios} == {()}
    assert {s.provider.kind for s in scenarios} == {p.name for p in providers_of(FIRST, "train")}


def test_no_training_world_holds_anything_held_out(thousand):
    assert not [held_out_in(s) for s in thousand if s.split == "train" and held_out_in(s)]


def test_a_holdout_world_holds_out_every_axis(thousand):
    for s in thousand:
        if s.split == "holdout":
            assert {found.split()[0] for found in held_out_in(s)} == {"archetype", "provider", "announcement"}


@pytest.mark.parametrize("axis", HELD_OUT)
def test_one_axis_can_be_held_out_alone(axis):
    worlds = list(generate(60, 0, "holdout", held_out=[axis]))
    found = {word.split("_")[0] for s in worlds for word in held_out_in(s)}
    expected = {
        "archetypes": {"archetype text", "archetype files", "archetype compare"},
        "providers": {"provider makefile", "provider wicket", "provider roster", "provider cards"},
        "announcements": {"announcement cron", "announcement home", "announcement cabinet", "announcement slips"},
        "utilities": {"archetype tool"},
    }
    assert found >= expected[axis]
    assert not any(found & others for name, others in expected.items() if name != axis)


def test_every_course_has_all_of_every_axis_in_both_splits():
    for course in COURSES.values():
        for split in ("train", "holdout"):
            assert providers_of(course, split)
            assert announcements_of(course, split)
        assert not set(providers_of(course, "train")) & set(providers_of(course, "holdout"))


def test_half_of_the_worlds_take_an_invented_utility(thousand):
    def takes(s):
        return any(w["archetype"].startswith("tool_") for d in s.directives for w in d.extra["works"])

    assert 0.45 <= sum(map(takes, thousand)) / len(thousand) <= 0.7


@pytest.mark.parametrize("course", COURSES)
def test_training_worlds_name_places_of_several_kinds(course):
    worlds = list(generate(400, 0, course=course))
    found = Counter(announcement_kind(s.announcement) for s in worlds)
    named = {kind: n for kind, n in found.items() if kind in NAMED}
    assert set(named) == {"folder", "notice", "spool", "above"}
    assert sum(named.values()) / len(worlds) >= {"full": 0.07, "first": 0.25}[course]
    carriers = Counter(s.announcement.kind for s in worlds if announcement_kind(s.announcement) in NAMED)
    assert set(carriers) == set(ANNOUNCEMENT_KINDS)


def test_a_named_place_is_said_in_many_ways():
    said = [s.announcement for s in generate(800, 0, course="first") if s.announcement.extra.get("named")]
    plain = [x.text for x in said if x.kind in ("env", "file")]  # nothing is drawn around these
    shapes = {re.sub(r"(/\w+)+[.\w]*\w", "PLACE", text) for text in plain}
    assert len(plain) > 80
    assert len(shapes) > len(plain) / 2


def test_a_third_of_the_worlds_announce_where_one_has_to_look(thousand):
    train = [s for s in thousand if s.split == "train"]
    assert 0.25 <= sum(announcement_kind(s.announcement) in SOUGHT for s in train) / len(train) <= 0.45
