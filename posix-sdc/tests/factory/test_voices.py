"""Directives and documentation are said in many ways, and each way says the same."""

import random
import re

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.phrasing import vary
from tiararodney.posix_sdc.factory.vocabulary import Draw, wordings
from tiararodney.posix_sdc.factory.voices import BANS, ban, voiced
from tiararodney.posix_sdc.records.phrases import PhraseCounter


def draw(seed=0):
    return Draw(random.Random(seed))


def test_a_phrase_takes_one_of_each_choice_and_keeps_real_parentheses():
    texts = {draw(seed).phrase("(Save|Put (it|that)) as x \\(or (y|z)\\)(, please|)") for seed in range(200)}
    assert texts == {
        f"{verb} as x (or {name}){please}"
        for verb in ("Save", "Put it", "Put that")
        for name in "yz"
        for please in ("", ", please")
    }


def test_wordings_are_items_that_may_go_on_in_further_lines():
    assert wordings("\n    - one\n      two\n    - three\n") == ("one two", "three")


def test_what_a_careful_writer_would_not_say_is_gone():
    for seed in range(50):
        text = vary("a.txt is to hold the lines of b.txt, c is to list d, e is to be f.", random.Random(seed))
        assert not re.search(r"\b(is|are) to\b", text), text
        assert all(name in text for name in ("a.txt", "b.txt", "c", "d", "e", "f"))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_every_voice_says_every_piece_in_its_order(number):
    texts = [f"Do thing{i}x with file{i}.txt" for i in range(number)]
    seen = set()
    for seed in range(80):
        text = voiced(draw(seed), texts)
        places = [text.index(f"Do thing{i}x with file{i}.txt") for i in range(number)]
        assert places == sorted(places)
        seen.add(re.sub(r"[^\n§*#:()-]", "", text))
    assert len(seen) > 4


def test_every_ban_names_what_it_forbids():
    assert len(BANS) >= 12
    assert all("fig.txt" in ban(draw(seed), "fig.txt") for seed in range(60))


@pytest.mark.slow
def test_no_phrase_is_in_more_than_two_percent_of_worlds():
    counter = PhraseCounter()
    for scenario in generate(2000, 0):
        counter.add(scenario)
    over = {phrase: worlds for phrase, worlds in counter.most(100).items() if worlds > 0.02 * counter.worlds}
    assert over == {}
