"""Mistyped names fail and do nothing else; ways to look print nothing that changes from day to day."""

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.sessions.operators.facts import Facts
from tiararodney.posix_sdc.sessions.operators.habits import LOOKING, READING, mistyped


@pytest.mark.parametrize(
    ("command", "inputs", "wrong"),
    [
        ("wc -l < melon.txt > n.txt", ["melon.txt"], "wc -l < melno.txt > n.txt"),
        ("grep fig melon.txt > melon.txt.out", ["melon.txt"], "grep fig melno.txt > melon.txt.out"),
        ("sed -i 's/melon/fig/' melon.conf", ["melon.conf"], "sed -i 's/melon/fig/' melno.conf"),
        ("mv moss.txt dew.txt", ["moss.txt"], "mv mos.txt dew.txt"),
    ],
)
def test_a_name_is_mistyped_where_it_is_read_and_nowhere_else(command, inputs, wrong):

    assert mistyped(command, inputs) == wrong


@pytest.mark.parametrize(
    ("command", "inputs"),
    [
        ("echo fig >> melon.txt", ["melon.txt"]),  # would make a file
        ("cat fig.txt >> melon.txt", ["fig.txt"]),
        ("tar czf melon.tar melons", ["melons"]),
        ("touch melon.txt", ["melon.txt"]),
        ("cat fig.txt", ["fig.txt"]),  # too short to be still meant
        ("cat box/melon.txt", ["box/melon.txt"]),
        ("ls", []),
    ],
)
def test_nothing_is_mistyped_that_would_do_more_than_fail(command, inputs):
    assert mistyped(command, inputs) == ""


def test_no_way_to_look_shows_times_or_process_numbers():
    ways = [way for table in (LOOKING, READING) for several in table.values() for way in several]
    assert not [way for way in ways if " -l" in way or way.split()[0] in ("ps", "date", "set", "stat")]


def test_ranges_and_classes_are_no_facts():
    """A pattern's `0-9` asks for no look: the operator knows what a digit is."""
    scenario = next(generate(1, 0))
    facts = Facts(scenario, scenario.workdir)
    facts._facts |= {"9", "0", "lower"}
    assert facts.missing("grep '^[0-9]* x' y | tr '[:lower:]' A-Z | tail -n +2") == []
    assert facts.missing("head -n3 y; echo 9") == ["9"]
    assert facts.missing("gzip -9 y") == []
