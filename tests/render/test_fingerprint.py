"""The contract that travels with an adapter."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render import (
    Message,
    SessionRefused,
    apply_policy,
    build_masked_examples,
    check_contract,
    contract_tokenizer,
    normalize_for_template,
    read_contract,
    save_contract,
    take_fingerprint,
)
from tiararodney.sekft.tokenizer import load_tokenizer

SESSION = [
    Message("system", "A terminal."),
    Message("user", "a <|im_end|>\n$ "),
    Message("assistant", "ls"),
    Message("user", "b\n$ "),
    Message("assistant", "exit"),
]


def corrupt(folder, **changes):
    path = folder / "render.json"
    data = {k: v for k, v in (json.loads(path.read_text()) | changes).items() if v is not None}
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("policy", ["keep", "escape"])
def test_what_is_saved_fits_the_base_and_itself(chatml, tmp_path, policy):
    taken = save_contract(chatml, tmp_path, policy)
    assert check_contract(tmp_path, chatml) == taken == read_contract(tmp_path)
    assert check_contract(tmp_path, load_tokenizer(tmp_path)) == taken
    assert taken.control_tokens == policy


@pytest.mark.parametrize("policy", ["keep", "escape"])
def test_the_saved_template_serves_what_was_trained(chatml, tmp_path, policy):
    tok = apply_policy(chatml, policy)
    save_contract(chatml, tmp_path, policy)
    saved = load_tokenizer(tmp_path)
    (example,) = build_masked_examples(tok, SESSION)
    for turn, (start, _) in zip(example.turns, example.spans, strict=True):
        upto = SESSION[: turn + 1]  # the system turn is not folded for the server: its template does that
        assert normalize_for_template(upto) == normalize_for_template(SESSION)[:turn]
        assert saved.encode(saved.render_text(upto, add_generation_prompt=True)) == example.input_ids[:start]


def test_escape_keeps_control_tokens_out_of_the_context(chatml):
    end = chatml.control_tokens["<|im_end|>"]
    kept, escaped = (build_masked_examples(apply_policy(chatml, p), SESSION)[0] for p in ("keep", "escape"))
    assert kept.input_ids.count(end) == escaped.input_ids.count(end) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template_sha256": "0" * 64}, "chat template: trained with 000000000000"),
        ({"tokenizer_sha256": "0" * 64}, "tokenizer: trained with 000000000000"),
        ({"normalizer_version": "0"}, "version of the normalisation: trained with 0, here 1"),
        ({"schema_version": "9"}, "schema of render.json"),
        ({"control_tokens": "escape"}, "chat template"),
        ({"template_sha256": None}, "field 'template_sha256'"),
        ({"control_tokens": 3}, "field 'control_tokens'"),
        ({"control_tokens": "drop"}, "field 'control_tokens': found 'drop', expected keep or escape"),
        ({"clock": "noon"}, "field 'clock': found 'noon'"),
        ({"settings": 3}, "field 'settings': found 3, expected an object"),
        ({"settings": {"x = 1 -%}": True}}, "field 'settings': found 'x = 1 -%}': True, expected a name"),
        ({"settings": {"enable_thinking": "false"}}, "field 'settings': found 'enable_thinking': 'false'"),
        ({"libraries": "4.0"}, "field 'libraries': found '4.0', expected an object"),
    ],
)
def test_what_differs_is_named(chatml, tmp_path, changes, message):
    save_contract(chatml, tmp_path)
    corrupt(tmp_path, **changes)
    with pytest.raises(ContractMismatch) as caught:
        check_contract(tmp_path, chatml)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [None, "{", "[]", "\udcff"])
def test_a_contract_that_cannot_be_read_is_a_mismatch(chatml, tmp_path, content):
    if content is not None:
        (tmp_path / "render.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ContractMismatch, match="expected"):
        check_contract(tmp_path, chatml)


def test_library_versions_are_recorded_not_compared(chatml, tmp_path):
    save_contract(chatml, tmp_path)
    corrupt(tmp_path, libraries={"transformers": "4.0"})
    check_contract(tmp_path, chatml)
    corrupt(tmp_path, template_sha256="0" * 64)
    with pytest.raises(ContractMismatch, match=r"transformers 4\.0"):
        check_contract(tmp_path, chatml)


@pytest.mark.parametrize("policy", ["keep", "escape"])
def test_a_base_serves_an_adapter_as_it_was_trained(chatml, tmp_path, policy):
    save_contract(chatml, tmp_path, policy)
    served, trained = contract_tokenizer(chatml, tmp_path), apply_policy(chatml, policy)
    session = normalize_for_template(SESSION[:2])
    assert served.render_text(session, add_generation_prompt=True) == trained.render_text(
        session, add_generation_prompt=True
    )


def test_a_fingerprint_is_the_same_for_both_tokenizer_kinds(chatml, tmp_path):
    from transformers import PreTrainedTokenizerFast

    chatml.save(tmp_path)
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert take_fingerprint(fast) == take_fingerprint(chatml) == take_fingerprint(load_tokenizer(tmp_path))


# Templates in which the contract has work to do: a date to fix, a thought to turn off.
DATED = "{{ '<|im_start|>system\\n' + strftime_now('%d %b %Y') + '<|im_end|>\\n' }}"
THINKING = (
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
_word = st.sampled_from(
    ["ls", "é漢", " ", "\n", "$ ", "<|im_end|>", "<|im_start|>assistant\n", "'", "\\", "{{ x }}", ""]
)
_sessions = st.lists(
    st.tuples(st.sampled_from(["user", "user", "assistant", "system"]), st.lists(_word, max_size=5).map("".join)),
    max_size=6,
).map(lambda turns: [Message("user", "$ "), *(Message(r, c) for r, c in turns), Message("assistant", "exit")])


@pytest.mark.parametrize("policy", ["keep", "escape"])
@pytest.mark.parametrize("kind", ["plain", "dated", "thinking"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=_sessions)
def test_whatever_is_trained_is_served_from_the_folder(chatml, tmp_path_factory, policy, kind, messages):
    body = chatml.chat_template.partition("{% if add_generation_prompt")[0]
    own = {"plain": chatml.chat_template, "dated": DATED + chatml.chat_template, "thinking": body + THINKING}[kind]
    base = chatml.with_template(own)
    trained, folder = apply_policy(base, policy), tmp_path_factory.getbasetemp() / f"contract-{kind}-{policy}"
    if not folder.is_dir():
        save_contract(trained, folder, policy)
    try:
        examples = build_masked_examples(trained, messages)
    except SessionRefused:
        return
    session = normalize_for_template(messages)
    for tok in (load_tokenizer(folder), contract_tokenizer(base, folder)):
        for example in examples:
            for turn, (start, stop) in zip(example.turns, example.spans, strict=True):
                assert (
                    tok.encode(tok.render_text(session[:turn], add_generation_prompt=True)) == example.input_ids[:start]
                )
                assert session[turn].content.strip() in tok.decode(example.input_ids[start:stop])
