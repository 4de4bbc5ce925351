"""Scenarios come out of a seed, the same bytes every time, no two alike."""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiararodney.posix_sdc.errors import UsageError
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.factory.herrings import HERRINGS
from tiararodney.posix_sdc.factory.taxonomy import BY_NAME, NAMED, SOUGHT, archetypes_of
from tiararodney.posix_sdc.records.axes import announcement_kind, block_of, herrings_of, level_of
from tiararodney.posix_sdc.records.schema import Scenario


def test_the_same_seed_gives_the_same_bytes():
    assert [dumps(s) for s in generate(40, 7)] == [dumps(s) for s in generate(40, 7)]


def test_another_process_gives_the_same_bytes():
    """Sets of strings have another order in each process."""
    program = (
        "from tiararodney.posix_sdc.factory.bundles import dumps, generate\n"
        "print(*map(dumps, generate(12, 0, archetypes=['build', 'service', 'process'])))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(made) == 1


def test_another_seed_gives_another_text():
    one, two = ([d.text for s in generate(30, seed) for d in s.directives] for seed in (1, 2))
    assert not set(one) & set(two)


def test_a_longer_run_begins_with_the_shorter_one():
    assert [dumps(s) for s in generate(50, 3)][:20] == [dumps(s) for s in generate(20, 3)]


@pytest.fixture(scope="module")
def many():
    return list(generate(2000, 0))


def test_no_two_of_5000_scenarios_have_the_same_text():
    texts = [(*(d.text for d in s.directives), *(f.content for f in s.fixtures)) for s in generate(5000, 0)]
    assert len(set(texts)) == 5000
    assert len({text[0] for text in texts}) > 4990


def test_no_two_plain_scenarios_have_the_same_directives():
    texts = [tuple(d.text for d in s.directives) for s in generate(3000, 0, course="first")]
    assert len(set(texts)) == 3000


def test_levels_go_from_one_step_to_ten_and_are_the_solutions_length(many):
    levels = Counter(map(level_of, many))
    assert set(levels) >= set(range(1, 11))
    for s in many:
        if s.terminal == "exit":
            assert level_of(s) == len(s.reference_solution) - any("place" in d.extra for d in s.directives)
    assert {level_of(s) for s in generate(60, 0, commands=(2, 2)) if BY_NAME[s.archetype].steps < 3} == {2}
    assert {len(s.directives) for s in many} == {1, 2, 3}


def test_an_unknown_level_or_course_is_refused():
    with pytest.raises(UsageError, match="--commands: found 12-14, expected LOW-HIGH between 1 and 10"):
        next(generate(1, 0, commands=(12, 14)))
    with pytest.raises(UsageError, match="--commands: the course 'first' does not vary them"):
        next(generate(1, 0, commands=(1, 2), course="first"))
    with pytest.raises(UsageError, match="--course: found 'last', expected one of full, first"):
        next(generate(1, 0, course="last"))


def test_a_directive_may_begin_with_what_a_former_one_makes(many):
    def crosses(s):
        made = set()
        for d in s.directives:
            inputs = {i for work in d.extra["works"] for i in work["inputs"]}
            if inputs & made:
                return True
            made |= {word for work in d.extra["works"] for c in work["solution"] for word in c.split()}
        return False

    assert sum(map(crosses, many)) > 40


def test_following_a_red_herring_is_among_the_near_misses(many):
    for s in many:
        kinds = herrings_of(s)
        assert set(kinds) <= set(HERRINGS)
        if kinds and s.terminal == "exit":
            followings = s.checker.extra["near_misses"][-len(kinds) :]
            solution = list(s.reference_solution)
            assert all(f[: len(solution)] == solution and len(f) > len(solution) for f in followings)


def test_a_chain_leads_from_place_to_place_and_names_the_provider_at_its_end(many):
    chained = [s for s in many if announcement_kind(s.announcement) == "chained"]
    assert {len(s.announcement.extra["chain"]) for s in chained} == {1, 2, 3}
    for s in chained:
        said = {f.path: f.content for f in s.fixtures} | {f"${k}": v for k, v in s.environment.items()}
        text = s.announcement.text
        for place in s.announcement.extra["chain"]:
            assert place["name"] in text
            assert s.provider.name not in text
            where = {"env": "$", "program": "/usr/local/bin/", "file": ""}[place["kind"]]
            text = said[where + place["name"]]
        assert s.provider.name in text


def test_a_named_place_holds_the_file_that_names_the_provider(many):
    worlds = [*many, *generate(200, 0, "holdout"), *generate(300, 0, course="first")]
    named = [s for s in worlds if s.announcement.extra.get("named")]
    assert {announcement_kind(s.announcement) for s in named} == set(NAMED)
    for s in named:
        said = s.announcement.text
        assert s.provider.name not in said
        (path,) = [f.path for f in s.fixtures if re.search(rf"\b{s.provider.name}\b", f.content)]
        if announcement_kind(s.announcement) == "above":
            assert path.rpartition("/")[0] == s.workdir.rpartition("/")[0]
        else:
            assert any(
                path == word or path.startswith(f"{word}/") for word in re.findall(r"(?:/\w+){2,}[.\w]*\w", said)
            )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**9), split=st.sampled_from(["train", "holdout"]))
def test_a_scenario_survives_its_file(seed, split):
    for scenario in generate(3, seed, split):
        assert Scenario.from_json(scenario.to_json()) == scenario


def test_holdout_takes_its_archetypes_in_turn():
    names = [s.archetype for s in generate(16, 0, "holdout", ["text_last", "files_copy"])]
    assert names == ["text_last", "files_copy"] * 8
    held_out = [a.name for a in archetypes_of("holdout")]
    assert [s.archetype for s in generate(len(held_out), 0, "holdout")] == held_out


def test_an_unknown_archetype_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'nope' is unknown.*files_copy"):
        next(generate(1, 0, "holdout", ["nope"]))


def test_an_archetype_of_the_other_split_is_refused():
    with pytest.raises(
        UsageError, match="'text_count' is of the split 'train', expected archetypes or families of the split 'holdout'"
    ):
        next(generate(1, 0, "holdout", ["text_count"]))


def test_training_never_uses_the_commands_that_held_out_archetypes_need(many):
    forms = (
        r"^tail -n [2-9]",
        r"grep -v",
        r"grep -c [A-Z]+ ",
        r"^ln ",
        r"/d'",
        r"^comm ",
        r"^for .*cmp",
        r"^ls -S",
        r"-empty",
    )

    def commands(scenarios):
        works = [w for s in scenarios for d in s.directives for w in d.extra["works"]]
        return [(w["archetype"], c) for w in works for cs in (w["solution"], *w["ways"], w["verify"]) for c in cs]

    trained = commands([*many, *generate(500, 0, course="first")])
    assert not {name for name, _ in trained} & {a.name for a in archetypes_of("holdout")}
    for form in forms:
        assert not [c for _, c in trained if re.search(form, c)], form
    assert not [c for name, c in trained if c.startswith("cp ") and BY_NAME[name].steps == 1]
    held_out = commands(generate(200, 0, "holdout"))
    for form in (*forms, r"^cp "):
        assert [c for _, c in held_out if re.search(form, c)], form


def test_the_announcement_names_the_provider_and_no_file_of_the_work(many):
    for s in many[:300]:
        if announcement_kind(s.announcement) not in ("chained", *NAMED, *SOUGHT):
            assert s.provider.name in s.announcement.text
        works = {i.rpartition("/")[2] for d in s.directives for w in d.extra["works"] for i in w["inputs"]}
        assert not works & set(s.announcement.text.split())


def test_nothing_in_the_world_shows_the_checker_or_the_solution(many):
    for s in many[:300]:
        text = "\0".join(f.content for f in (*s.provider.files, *s.fixtures))
        told = "\0".join(d.text for d in s.directives)
        assert "ok 1 - " not in text
        plain = [c for c in s.reference_solution if c in text and c not in told]
        assert not [c for c in plain if not c.startswith(("sh ", "sleep "))], plain


def test_a_panic_world_names_its_block_and_its_reasons_words(many):
    """What comes before the blocked piece is its reference solution; its own reason passes its own words."""
    blocked = [s for s in many if s.terminal == "panic"]
    assert 160 <= len(blocked) <= 300
    assert sum(bool(s.reference_solution) for s in blocked) > 20
    for s in blocked:
        works = [w for d in s.directives for w in d.extra["works"]]
        stuck = next(i for i, w in enumerate(works) if w["block"] == block_of(s))
        done = [c for w in works[:stuck] for c in w["solution"]]
        assert [c for c in s.reference_solution if not c.startswith("cd ")] == done
        groups = s.checker.extra["reason"]
        assert groups
        assert all(any(word in works[stuck]["reason"].lower() for word in words) for words in groups)
        assert s.checker.extra["blocked"] in {d.id for d in s.directives if works[stuck] in d.extra["works"]}
    assert all(block_of(s) == "" and s.reference_solution for s in many if s.terminal == "exit")


def test_panic_worlds_have_twins_that_look_the_same_and_can_be_solved(many):
    twins = Counter(w["twin"] for s in many for d in s.directives for w in d.extra["works"])
    assert min(twins[block] for block in ("contradiction", "denied", "failing")) >= 5
    banned = [
        s for s in many if re.search(r"(Do not|Never) (create|make) \S+\.", " ".join(d.text for d in s.directives))
    ]
    assert {s.terminal for s in banned} == {"exit", "panic"}


def test_a_program_of_a_chain_prints_its_pointer_as_it_stands(many):
    scripts = [f.content for s in many for f in s.fixtures if f.content.startswith("#!/bin/sh\nprintf")]
    assert any("$" in script for script in scripts)
    for script in scripts:
        words = shlex.split(script.splitlines()[1])
        assert script == f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(words[2])}\n"
