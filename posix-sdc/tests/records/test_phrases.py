"""Phrases are counted by the worlds that have them, within a sentence, without names."""

from dataclasses import replace

from tiararodney.posix_sdc.records.phrases import PhraseCounter, phrases, texts
from tiararodney.posix_sdc.records.schema import Directive, Fixture


def test_a_phrase_ends_at_a_name_and_at_the_end_of_a_sentence():
    assert phrases("Write the lines of fig.txt. Then rest a while") == {
        "write the lines",
        "the lines of",
        "write the lines of",
        "then rest a",
        "rest a while",
        "then rest a while",
    }


def test_a_world_counts_once_and_a_longer_phrase_stands_for_its_parts(scenario):
    counter = PhraseCounter()
    one = replace(scenario(), directives=(Directive("1", "look after the cat"), Directive("2", "look after the cat")))
    counter.add(one)
    counter.add(replace(one, directives=(Directive("1", "look after the dog"),)))
    most = counter.most(3)
    assert most["look after the"] == 2
    assert most["look after the cat"] == 1
    assert "after the cat" not in most


def test_documentation_counts_where_it_stands_in_a_program(scenario):
    program = "#!/bin/sh\ncat <<'END'\nseals a file well\nEND\nexit 0\n"
    world = replace(scenario(), fixtures=(Fixture("/usr/local/bin/x", program), Fixture("/srv/a", "not this one here")))
    assert "seals a file well\n" in list(texts(world))
    assert not any("not this one" in text for text in texts(world))
