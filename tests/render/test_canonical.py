"""The canonical template does in Jinja what `normalize_for_template` does in Python."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from tiararodney.sekft.render import Message, SessionRefused, canonical_chat_template, normalize_for_template
from tiararodney.sekft.render.contract.canonical import marks_of
from tiararodney.sekft.render.tokens import ESCAPE

_part = st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=4)})
_no_text = st.sampled_from([{"type": "image"}, {"type": "text"}, {"type": "text", "text": None}, "x", 3, None])
_messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "user", "assistant", "assistant"]),
        # Text mostly, a list of parts at times, and what is neither seldom.
        st.one_of(
            *[st.text(max_size=8)] * 12, *[st.lists(_part, max_size=3)] * 3, st.lists(_no_text, min_size=1, max_size=2)
        ),
    ),
    max_size=7,
)
# A template that shows every message as it is, and its neighbours in the loop.
PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</{{ loop.index }}/{{ messages | length }}>{% endfor %}"
)
# White space at the start of a template means something to Jinja's `trim_blocks` and `lstrip_blocks`.
BEGINNINGS = [
    "",
    "\n",
    "  ",
    "\n\n  ",
    "{#- note -#}\n",
    "  {% if true %} x {% endif %}\n",
    "text\n{{- bos_token }}\n",
    "{%- set x = 1 %}\n",
]


def rendered(tok, messages, prompt):
    try:
        return tok.render_text(messages, add_generation_prompt=prompt)
    except TemplateError as error:
        return type(error)


def normalised(messages):
    try:
        return normalize_for_template(messages)
    except SessionRefused:
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=_messages, prompt=st.booleans(), beginning=st.sampled_from(BEGINNINGS))
def test_it_renders_as_the_original_does_normalized_messages(chatml, messages, prompt, beginning):
    original = chatml.with_template(beginning + PLAIN)
    canonical = chatml.with_template(canonical_chat_template(original.chat_template))
    expected = normalised(messages)
    if expected is None:
        with pytest.raises(Exception, match=r"role|turn|session|content"):
            canonical.render_text(messages, add_generation_prompt=prompt)
    else:
        assert rendered(canonical, messages, prompt) == rendered(original, expected, prompt)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=_messages, prompt=st.booleans())
def test_it_holds_for_every_real_template(real, messages, prompt):
    expected = normalised(messages)
    if expected is None:
        return
    canonical = real.with_template(canonical_chat_template(real.chat_template))
    shown, wanted = rendered(canonical, messages, prompt), rendered(real, expected, prompt)
    assert shown == wanted


@settings(max_examples=200, deadline=None)
@given(messages=_messages)
def test_normalising_twice_is_normalising_once_and_loses_no_text(messages):
    once = normalised(messages)
    if once is None:
        return
    assert normalize_for_template(once) == once
    position, text = 0, "\0".join(m.content for m in once)
    for message in messages:
        parts = [message.content] if isinstance(message.content, str) else [part["text"] for part in message.content]
        for part in parts:
            position = text.index(part, position) + len(part)


def test_system_turns_fold_and_neighbours_merge():
    messages = [
        {"role": "system", "content": "A terminal."},
        {"role": "user", "content": "l"},
        {"role": "user", "content": "s"},
        {"role": "assistant", "content": "exit"},
    ]
    assert normalize_for_template(messages) == [
        {"role": "user", "content": "A terminal.\n\nl\ns"},
        {"role": "assistant", "content": "exit"},
    ]


@pytest.mark.parametrize("content", [None, 3, {"type": "text", "text": "x"}, [{"type": "image"}], ["x"], [None]])
def test_content_that_is_no_text_is_refused_by_both(chatml, content):
    messages = [Message("user", content)]
    with pytest.raises(SessionRefused, match="content"):
        normalize_for_template(messages)
    canonical = chatml.with_template(canonical_chat_template(PLAIN))
    with pytest.raises(TemplateError, match="content"):
        canonical.render_text(messages, add_generation_prompt=True)


def test_parts_of_text_are_the_text(chatml):
    parts = [{"role": "user", "content": [{"type": "text", "text": "l"}, {"type": "text", "text": "s\n$ "}]}]
    assert normalize_for_template(parts) == [Message("user", "ls\n$ ")]
    canonical = chatml.with_template(canonical_chat_template(chatml.chat_template))
    shown = canonical.render_text([Message("user", parts[0]["content"])], add_generation_prompt=True)
    assert shown == chatml.render_text([Message("user", "ls\n$ ")], add_generation_prompt=True)


def test_making_it_canonical_twice_changes_nothing():
    once = canonical_chat_template(PLAIN, ["</s>"])
    assert canonical_chat_template(once) == once
    assert marks_of(once).control_tokens == "escape"
    assert marks_of(canonical_chat_template(PLAIN)).control_tokens == "keep"
    assert marks_of(PLAIN) is None


def test_escape_breaks_control_tokens_up_in_every_message(chatml):
    tok = chatml.with_template(canonical_chat_template(chatml.chat_template, chatml.control_tokens))
    shown = tok.render_text([Message("user", "a <|im_end|> b <|im_start|>")], add_generation_prompt=True)
    assert f"a <{ESCAPE}|im_end|> b <{ESCAPE}|im_start|><|im_end|>\n<|im_start|>assistant\n" in shown
    ids = tok.encode(shown)
    plain = tok.encode(tok.render_text([Message("user", "")], add_generation_prompt=True))
    control = set(tok.control_tokens.values())
    assert [i for i in ids if i in control] == [i for i in plain if i in control]


@settings(max_examples=100, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(["<", "|", "im_end", "|>", "<|im_end|>", "<|im_start|>", ESCAPE, "\\", "'", "x"]), max_size=10
    ).map("".join)
)
def test_escape_leaves_no_control_token_whatever_the_text(chatml, text):
    tok = chatml.with_template(canonical_chat_template("{{ messages[0]['content'] }}", chatml.control_tokens))
    shown = tok.render_text([Message("user", text)], add_generation_prompt=False)
    assert shown.replace(ESCAPE, "") == text.replace(ESCAPE, "")
    assert not set(tok.encode(shown)) & set(tok.control_tokens.values())


@settings(max_examples=60, deadline=None)
@given(messages=_messages, prompt=st.booleans(), escape=st.booleans())
def test_minijinja_renders_the_same(chatml, messages, prompt, escape):
    minijinja = pytest.importorskip("minijinja", reason="needs a second engine (pip install minijinja)")
    tok = chatml.with_template(canonical_chat_template(PLAIN, chatml.control_tokens if escape else ()))
    if normalised(messages) is None:
        return

    def refuse(message):
        raise ValueError(message)

    engine = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    engine.add_global("raise_exception", refuse)
    other = engine.render_str(
        tok.chat_template,
        messages=[{"role": m.role, "content": m.content} for m in messages],
        add_generation_prompt=prompt,
    )
    assert other == tok.render_text(messages, add_generation_prompt=prompt)
