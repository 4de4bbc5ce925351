"""Serve-exact examples on real tokenizers and templates."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.render import Message, RefusalReason, SessionRefused, build_masked_examples

# Ordinary shell starts, twelve of which merge with the `]` of Mistral's first template.
STARTS = ["[ -d x ]", "[[", "(", "{", ":", "./x", "/bin/ls", "$x", "\\ls", "]", "[", "[/INST]"]
PLAIN = ["ls", "cat x", "echo hi", "exit", "panic no way", "~/x", "#", "-x", "a=b", "'x'", '"x"', ">f", "*", "!", "ünï"]

_piece = st.sampled_from(
    [*STARTS, *PLAIN, " ", "\n", "  ", "\t", "é", "漢字", "🙂", "1234", "</s>", "<|im_end|>", "$ "]
)
_text = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=20),
    st.lists(_piece, max_size=8).map("".join),
)
_reply = st.one_of(st.sampled_from([*STARTS, *PLAIN]), _text.filter(lambda t: t.strip() == t and t))
sessions = st.lists(st.tuples(_reply, _text), min_size=1, max_size=4)


def _session(turns):
    out = [Message("system", "A terminal."), Message("user", "Welcome\n$ ")]
    for reply, output in turns:
        out += [Message("assistant", reply), Message("user", output + "\n$ ")]
    return out[:-1]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=sessions)
def test_every_turn_is_trained_as_it_is_served(real, assert_serve_exact, turns):
    session = _session(turns)
    if any(real.decode(real.encode("x" + c)) != "x" + c for reply, _ in turns for c in reply):
        # Some vocabularies lack the pieces for rare bytes (SmolLM2's lacks a few): nothing could say such a reply.
        with pytest.raises(SessionRefused) as caught:
            build_masked_examples(real, session)
        assert caught.value.reason is RefusalReason.NOT_REVERSIBLE
        return
    assert_serve_exact(real, session, build_masked_examples(real, session))


def test_a_refusal_comes_back_whole_from_another_process():
    refusal = SessionRefused(RefusalReason.EMPTY_REPLY, "found ''", 3)
    copy = pickle.loads(pickle.dumps(refusal))
    assert (copy.reason, copy.detail, copy.turn, str(copy)) == (refusal.reason, "found ''", 3, str(refusal))
