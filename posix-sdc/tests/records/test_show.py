"""What `posix-sdc show` prints: safe for the reader's terminal, and true to the session."""

from dataclasses import replace

import pytest

from tiararodney.posix_sdc.records.show import page, printable, transcript
from tiararodney.posix_sdc.schema import Turn

CONTROLS = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, *range(0x2028, 0x202F), 0x2066, 0xFEFF]


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_no_turn_can_act_on_the_readers_terminal(session, role):
    hostile = "".join(map(chr, CONTROLS))
    shown = transcript(replace(session("a"), turns=(Turn(role, f"a{hostile}b\tc"),)))
    assert not set(hostile) & set(shown)
    assert "\tc" in shown


def test_ids_and_scenarios_cannot_either(session, scenario):
    assert "\x1b" not in transcript(replace(session("a"), id="a\x1b[2J"))
    assert "\x1b" not in page(scenario(reference_solution=["printf '\x1b[2J'"]))


def test_symbols_name_the_character():
    assert printable("\x1b]0;x\x07\r\x7f\x9b\u202e\n") == "␛]0;x␇␍\\x7f\\x9b\\u202e\n"


def test_a_mistake_is_marked(session):
    mistaken = replace(session("a"), turns=(Turn("assistant", "cat lost", train=False), Turn("assistant", "exit")))
    assert transcript(mistaken).endswith("cat lost  # not trained\nexit\n")
