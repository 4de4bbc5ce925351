"""Loading a tokenizer as its file says, and refusing folders that hold none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import Message, Tokenizer, render_prompt
from tiararodney.sekft.tokenizer import load_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXTS = ["ls -la 12345", "  a\n\n\tb", "é漢🙂", "x<|im_end|>y<|im_start|>", "", "$ ", "'s 1 2 3"]


def backend() -> Any:
    """A byte-level tokenizer that splits digits, as SmolLM2's does."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    out = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    out.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    out.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    out.train_from_iterator(["12345 12345 ls -la cat 123 echo 2024"] * 4, trainer)
    out.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|im_start|>", "<|im_end|>")])
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    backend().save(str(tmp_path / "tokenizer.json"))
    eos = {"__type": "AddedToken", "content": "<|im_end|>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": eos}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_it_encodes_as_the_file_says(folder, text):
    from tokenizers import Tokenizer as Backend

    tok = load_tokenizer(folder)
    plain = Backend.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False)
    assert tok.encode(text) == plain.ids
    assert tok.decode(tok.encode(text)) == text


def test_it_knows_its_special_tokens(folder):
    tok = load_tokenizer(folder)
    assert (tok.bos_token, tok.eos_token) == ("<|im_start|>", "<|im_end|>")
    ids = {token: tok.backend.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>")}
    assert tok.control_tokens == ids
    assert tok.anchors == {i: token for token, i in ids.items()}


def test_it_renders_as_transformers_does(folder, tmp_path_factory):
    from transformers import PreTrainedTokenizerFast

    tok = load_tokenizer(folder)
    out = tmp_path_factory.mktemp("out")
    tok.save(out)
    fast = PreTrainedTokenizerFast.from_pretrained(out)
    session = [Message("user", "$ "), Message("assistant", "ls"), Message("user", "a\n$ ")]
    for prompt in (True, False):
        theirs = fast.apply_chat_template([dict(m) for m in session], tokenize=False, add_generation_prompt=prompt)
        assert tok.render_text(session, add_generation_prompt=prompt) == theirs


def test_saved_files_load_the_same_in_auto_tokenizer(folder, tmp_path_factory):
    from transformers import AutoTokenizer

    tok = load_tokenizer(folder)
    out = tmp_path_factory.mktemp("out")
    tok.save(out)
    auto, again = AutoTokenizer.from_pretrained(out), load_tokenizer(out)
    for text in TEXTS:
        assert auto(text, add_special_tokens=False)["input_ids"] == tok.encode(text) == again.encode(text)
    assert again.chat_template == auto.chat_template == TEMPLATE
    assert again.definition == tok.definition
    assert (auto.bos_token, auto.eos_token) == (again.bos_token, again.eos_token) == ("<|im_start|>", "<|im_end|>")


@pytest.mark.parametrize(
    ("where", "template"),
    [
        ("config", TEMPLATE),
        ("config", [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]),
    ],
)
def test_the_template_may_stand_in_the_settings(folder, where, template):
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    assert load_tokenizer(folder).chat_template == TEMPLATE


def add(folder: Path, **settings: Any) -> None:
    """Add settings to a folder's configuration."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def decoder(*tokens: str, **flags: bool) -> dict[str, dict[str, Any]]:
    """Added tokens as a configuration states them, with the ids behind the tokenizer's own."""
    first = backend().get_vocab_size(with_added_tokens=True)
    return {str(first + n): {"content": token, **flags} for n, token in enumerate(tokens)}


# Ways in which model folders state tokens that tokenizer.json lacks.
STATED = {
    "special": {"added_tokens_decoder": decoder("<|call|>", "<|tool|>", special=True, normalized=False)},
    "not special": {"added_tokens_decoder": decoder("<|call|>", "<|tool|>", special=False, normalized=False)},
    "stripping": {"added_tokens_decoder": decoder("<|call|>", "<|tool|>", special=True, lstrip=True, rstrip=True)},
    "extra list": {"extra_special_tokens": ["<|call|>", "<|tool|>"]},
    "flags of a known one": {
        "added_tokens_decoder": {
            str(backend().token_to_id("<|im_end|>")): {"content": "<|im_end|>", "lstrip": True, "special": True}
        }
    },
}


@pytest.mark.parametrize("settings", STATED.values(), ids=STATED)
def test_tokens_in_settings_alone_match_auto_tokenizer(folder, settings):
    from transformers import AutoTokenizer

    template = TEMPLATE.replace("<|im_end|>\\n", "<|im_end|> <|call|>x <|tool|>\\n")
    (folder / "chat_template.jinja").write_text(template)
    add(folder, tokenizer_class="PreTrainedTokenizerFast", eos_token="<|im_end|>", **settings)
    tok, auto = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    session = [Message("user", "$ "), Message("assistant", "ls")]
    for text in (template, tok.render_text(session, add_generation_prompt=True), *TEXTS):
        assert tok.encode(text) == auto(text, add_special_tokens=False)["input_ids"]
    assert tok.control_tokens == {
        t.content: i for i, t in auto.added_tokens_decoder.items() if t.special and t.content.strip()
    }


def test_tokens_in_settings_alone_are_saved(folder, tmp_path_factory):
    add(folder, **STATED["special"])
    tok, out = load_tokenizer(folder), tmp_path_factory.mktemp("out")
    assert len(tok.encode("<|call|>")) == 1
    tok.save(out)
    assert load_tokenizer(out).definition == tok.definition


def test_tokens_of_an_older_file_are_read(folder):
    (folder / "added_tokens.json").write_text(json.dumps({"<|call|>": int(next(iter(decoder("x"))))}))
    assert len(load_tokenizer(folder).encode("<|call|>")) == 1


def test_a_model_outside_the_cache_is_bad_usage(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"not in the hub's cache.*hf download somebody/model"):
        load_tokenizer("somebody/model")


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "found no tokenizer.json"),
        (lambda f: (f / "tokenizer_config.json").unlink(), "found no tokenizer_config.json"),
        (lambda f: (f / "chat_template.jinja").unlink(), "found no chat template"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot read its tokenizer"),
        (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\xfe"), "cannot read its tokenizer"),
        (lambda f: (f / "tokenizer_config.json").write_text("{"), "cannot read its tokenizer"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "cannot read its tokenizer"),
        (lambda f: (f / "tokenizer_config.json").write_text('{"eos_token": "</s>"}'), "'eos_token'"),
        (lambda f: add(f, added_tokens_decoder={"7": {"content": "<|call|>"}}), "'<|call|>' with the id 7"),
        (lambda f: add(f, added_tokens_decoder=["<|call|>"]), "cannot read its tokenizer"),
    ],
)
def test_a_folder_that_is_no_model_is_bad_usage(folder, corrupt, message):
    corrupt(folder)
    with pytest.raises(UsageError, match=message) as caught:
        load_tokenizer(folder)
    assert str(folder) in str(caught.value)


def test_a_folder_that_is_not_there_is_bad_usage(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("tokenizer", [object(), None, "models/tiny"])
def test_what_is_no_tokenizer_is_named(tokenizer):
    with pytest.raises(TypeError, match="expected a sekft Tokenizer or a fast tokenizer of transformers, found"):
        render_prompt(tokenizer, [Message("user", "$ ")])


def test_it_needs_no_torch(folder):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tiararodney.sekft.tokenizer import load_tokenizer\n"
        "from tiararodney.sekft.render import build_masked_examples\n"
        f"tok = load_tokenizer({str(folder)!r})\n"
        "turns = [{'role': 'user', 'content': '$ '}, {'role': 'assistant', 'content': 'exit'}]\n"
        "print(len(build_masked_examples(tok, turns)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_a_replaced_template_leaves_the_rest(folder):
    tok = load_tokenizer(folder)
    other = tok.with_template("x")
    assert isinstance(other, Tokenizer)
    assert other.chat_template == "x"
    assert other.encode("ls 12") == tok.encode("ls 12")
