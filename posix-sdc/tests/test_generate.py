"""Scenarios come out of a seed, the same bytes every time, no two alike."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.generate import dumps, generate
from tiararodney.posix_sdc.schema import Scenario
from tiararodney.posix_sdc.taxonomy import archetypes_of


def test_the_same_seed_gives_the_same_bytes():
    assert [dumps(s) for s in generate(40, 7)] == [dumps(s) for s in generate(40, 7)]


def test_another_seed_gives_another_text():
    one, two = ([d.text for s in generate(30, seed) for d in s.directives] for seed in (1, 2))
    assert not set(one) & set(two)


def test_a_longer_run_begins_with_the_shorter_one():
    assert [dumps(s) for s in generate(50, 3)][:20] == [dumps(s) for s in generate(20, 3)]


def test_no_two_of_5000_scenarios_have_the_same_text():
    texts = [tuple(d.text for d in s.directives) for s in generate(5000, 0)]
    assert len(set(texts)) == 5000


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**9), split=st.sampled_from(["train", "holdout"]))
def test_a_scenario_survives_its_file(seed, split):
    for scenario in generate(3, seed, split):
        assert Scenario.from_json(scenario.to_json()) == scenario


def test_holdout_takes_its_archetypes_in_turn():
    names = [s.archetype for s in generate(16, 0, "holdout", ["text_last", "files_copy"])]
    assert names == ["text_last", "files_copy"] * 8
    everything = [s.archetype for s in generate(12, 0, "holdout")]
    assert everything[:6] == [a.name for a in archetypes_of("holdout")]


def test_an_unknown_archetype_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'nope' is unknown.*files_copy"):
        next(generate(1, 0, "holdout", ["nope"]))


def test_an_archetype_of_the_other_split_is_refused():
    with pytest.raises(
        UsageError, match="'text_count' is of the split 'train', expected archetypes of the split 'holdout'"
    ):
        next(generate(1, 0, "holdout", ["text_count"]))


def test_training_never_uses_the_commands_that_held_out_archetypes_need():
    forms = (r"^tail -n [2-9]", r"grep -v", r"grep -c [A-Z]+ ", r"^ln ", r"/d'")
    directives = [d.extra for s in generate(1500, 0) for d in s.directives]
    trained = [c for d in directives for c in (*d["solution"], *d["verify"])]
    for form in forms:
        assert not [c for c in trained if re.search(form, c)], form
    assert not [d for d in directives if len(d["solution"]) == 1 and d["solution"][0].startswith("cp ")]
    held_out = [c for s in generate(300, 0, "holdout") for c in s.reference_solution]
    for form in (*forms, r"^cp "):
        assert [c for c in held_out if re.search(form, c)], form


def test_the_announcement_names_the_provider_and_no_file_of_the_work():
    for s in generate(300, 4):
        assert s.provider.name in s.announcement.text
        assert not [f for f in s.fixtures if f.path.rpartition("/")[2] in s.announcement.text.split()]


def test_nothing_in_the_world_shows_the_checker_or_the_solution():
    for s in generate(300, 5):
        text = "\0".join(f.content for f in (*s.provider.files, *s.fixtures))
        assert "check 1 of" not in text
        assert not [
            c for c in s.reference_solution if c in text and c not in s.directives[0].text and not c.startswith("sh ")
        ]


def test_a_panic_world_names_its_block_and_has_no_solution():
    blocked = [s for s in generate(400, 6) if s.terminal == "panic"]
    assert blocked
    assert all(s.extra["block"] and s.reference_solution == () for s in blocked)
    assert all(s.extra["block"] == "" and s.reference_solution for s in generate(100, 6) if s.terminal == "exit")


def test_the_solvable_twin_of_a_contradiction_bans_something_else():
    twins = [s for s in generate(2000, 8) if re.search(r"Do not create \S+\.$", s.directives[0].text)]
    assert {s.terminal for s in twins} == {"exit", "panic"}
