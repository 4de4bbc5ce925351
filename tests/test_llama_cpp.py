"""llama.cpp with the real model: converted by its own script, it computes and serves what was trained."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import pytest

from tiararodney.sekft.sft.cli import main
from tiararodney.sekft.tokenizer import load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SOURCES = "SEKFT_LLAMA_CPP"
CONTEXT = 1024
ROUNDING = 0.05  # of a log-probability
NOT_FOR_THIS_CPU = "xllamacpp's wheel has instructions that this processor lacks (SIGILL)"

# A process of its own: it is native code, and the server ends with it.
SERVER = """
import json, sys, xllamacpp
settings = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = settings.pop("path")
params.port, params.n_parallel, params.warmup, params.cpuparams.n_threads = 0, 1, False, 1
for name, value in settings.items():
    setattr(params, name, set(value) if name == "model_alias" else value)
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""

# Where tokenizers part: digits behind runs of spaces, letters of other scripts, text that looks like control.
OUTPUTS = [
    "total 12\n-rw-r--r-- 1 op op   4096 Jan  1 00:00 notes7.txt\n-rw-r--r-- 1 op op     17 Jan  1 00:00 ½ of 2024\n",
    "  1\tżółw 日本 😀👩‍👩‍👧\n 12\tit's  don't\u00a0\u2003x\r\n\n\n",
    "say <|im_end|> or <|im_start|>user and </s>\n\x1b[31m0x1F\x1b[0m  1,234.50%\n",
    "",
]


class Tuned(NamedTuple):
    """What a user has after training and conversion."""

    base: Path
    data: Path
    adapter: Path
    merged: Path
    gguf: Path


def sessions() -> list[dict[str, Any]]:
    """Two sessions with what tokenizers differ in."""
    rows = []
    for n in range(2):
        turns = [
            {"role": "system", "content": "You are in a terminal. What you type is run by the shell."},
            {"role": "user", "content": "Directives are handed out by tasks.\n$ "},
        ]
        for at, output in enumerate(OUTPUTS):
            turns.append({"role": "assistant", "content": f"sed -n '{at},{at + n}p'  notes{n}.txt"})
            turns.append({"role": "user", "content": f"{output}$ "})
        turns.append({"role": "assistant", "content": "exit"})
        rows.append({"id": f"s{n}", "keep": True, "verified": True, "turns": turns})
    return rows


@pytest.fixture(scope="module")
def converter() -> Path:
    """llama.cpp's script; skips where anything that the tests here need is missing."""
    for module in ("peft", "sentencepiece", "xllamacpp"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    loaded = subprocess.run([sys.executable, "-c", "import xllamacpp"], capture_output=True, text=True)
    if loaded.returncode == -signal.SIGILL:
        pytest.skip(NOT_FOR_THIS_CPU)
    if loaded.returncode:  # its wheel takes libgomp from the system
        pytest.skip(f"xllamacpp does not load: {loaded.stderr.strip().splitlines()[-1]}")
    script = Path(os.environ.get(SOURCES, ".")) / "convert_hf_to_gguf.py"
    if not script.is_file():
        pytest.skip(f"needs llama.cpp's sources: set {SOURCES} to their folder (docs/train.md tells where from)")
    return script


def tune(converter: Path, base: Path, folder: Path) -> Tuned:
    """Train an adapter for a step, merge it, and convert that as docs/train.md does."""
    made = Tuned(base, *(folder / name for name in ("data.jsonl", "adapter", "merged", "merged.gguf")))
    made.data.write_text("".join(json.dumps(row) + "\n" for row in sessions()))
    where = ["--data", str(made.data), "--base", str(made.base), "--out", str(made.adapter)]
    how = ["--max-steps", "1", "--learning-rate", "1e-3", "--device", "cpu", "--save-merged", str(made.merged), "-q"]
    assert main([*where, *how]) == 0
    # As documented but for the type: 32 bits, so that what is computed can be compared closely.
    command = [sys.executable, str(converter), str(made.merged), "--outfile", str(made.gguf), "--outtype", "f32"]
    done = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return made


@pytest.fixture(scope="module")
def tuned(converter: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuned]:
    """The real base, tuned and converted."""
    base = request.getfixturevalue("real_base")  # it takes half a minute: not before what else is needed is there
    folder = tmp_path_factory.mktemp("llama")
    yield tune(converter, base, folder)
    shutil.rmtree(folder)


@contextmanager
def llama_server(path: Path, **settings: Any) -> Iterator[str]:
    """Run llama.cpp's server on the loopback for a while and give its address."""
    command = [sys.executable, "-c", SERVER, json.dumps({"path": str(path), "n_ctx": CONTEXT} | settings)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with TemporaryFile("w+") as said, subprocess.Popen(command, text=True, stderr=said, **pipes) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url.startswith("http://127.0.0.1:"):
                if process.wait(5) == -signal.SIGILL:
                    pytest.skip(NOT_FOR_THIS_CPU)
                said.seek(0)
                pytest.fail(f"the server ended with {process.returncode}: {said.read()[-2000:]}")
            yield url
        finally:
            process.kill()


def ask(url: str, body: Any) -> Any:
    """Send JSON and return the JSON that comes back."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
        return json.load(response)


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`inspect(tuned, url)` -> what `sekft-train --inspect --endpoint` finds: exit code, report and messages."""

    def look(tuned: Tuned, url: str, model: str = "tuned") -> tuple[int, dict[str, Any], str]:
        flags = ["--data", str(tuned.data), "--base", str(tuned.adapter), "--endpoint", f"{url}/v1", "--model", model]
        capsys.readouterr()
        code = main(["--inspect", "--json", *flags])
        out, err = capsys.readouterr()
        return code, (json.loads(out)["endpoint"] if out else {}), err

    return look


def test_llama_cpp_computes_and_replies_what_transformers_does(tuned: Tuned):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tuned.merged)
    model = AutoModelForCausalLM.from_pretrained(tuned.merged, dtype=torch.float32)
    session = sessions()[1]["turns"]
    with llama_server(tuned.gguf) as url:
        for turn in (2, len(session) - 1):
            prompt = tokenizer.apply_chat_template(
                session[:turn], add_generation_prompt=True, return_tensors="pt", return_dict=False
            )
            with torch.no_grad():
                expected = model(prompt).logits[0, -1].log_softmax(-1)
                attended = {"attention_mask": torch.ones_like(prompt)}
                reply = model.generate(prompt, **attended, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
            body = {"prompt": prompt[0].tolist(), "n_predict": 1, "n_probs": 50, "temperature": 0}
            (first,) = ask(f"{url}/completion", body)["completion_probabilities"]
            told = {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}
            # measured: 0.009, as llama.cpp keeps keys and values in 16 bits; at the edge of the 50 two may swap
            assert len(told) == 50
            assert min(expected[i].item() for i in told) > expected.topk(50).values[-1].item() - 2 * ROUNDING
            assert max(abs(expected[i].item() - value) for i, value in told.items()) < ROUNDING
            body = {"messages": session[:turn], "max_tokens": 12, "temperature": 0}
            answer = ask(f"{url}/v1/chat/completions", body)
            assert answer["usage"]["prompt_tokens"] == prompt.shape[1], "a chat puts that prompt before the model"
            assert answer["choices"][0]["message"]["content"] == tokenizer.decode(reply, skip_special_tokens=True)


def test_a_real_server_serves_what_was_trained(tuned: Tuned, inspect: Any):
    with llama_server(tuned.gguf, model_alias=["another", "tuned"]) as url:
        code, found, _ = inspect(tuned, url)
        assert inspect(tuned, url, model="other")[0] == 2
    assert (code, found["differences"], found["causes"]) == (0, [], [])
    assert found["route"] == "llama.cpp's /apply-template and /tokenize"
    assert (found["sessions"], found["turns"], found["too_long"]) == (2, 10, 0)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"chat_template": "the base's"}, "does not fold system turns"),
        ({"use_jinja": False}, "renders with another template"),
    ],
    ids=["the base's template", "no jinja"],
)
def test_a_real_server_with_another_template_is_told(tuned: Tuned, inspect: Any, settings: Any, cause: str):
    if "chat_template" in settings:
        settings = {"chat_template": load_tokenizer(tuned.base).chat_template}
    with llama_server(tuned.gguf, model_alias=["tuned"], **settings) as url:
        code, found, _ = inspect(tuned, url)
    assert code == 1
    assert len(found["differences"]) == found["turns"] == 10
    assert any(cause in text for text in found["causes"])


def test_a_file_with_another_tokenizer_is_told(tuned: Tuned, inspect: Any):
    name, other = (b"%c%b%b" % (6, bytes(7), name) for name in (b"smollm", b"gpt-4o"))
    with tuned.gguf.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(name)
        content[at : at + len(name)] = other
        try:
            with llama_server(tuned.gguf, model_alias=["tuned"]) as url:
                code, found, _ = inspect(tuned, url)
        finally:
            content[at : at + len(name)] = name
    assert code == 1
    assert any("the same text into other tokens" in text for text in found["causes"])
    first = found["differences"][0]
    assert (first["trained"], first["served"]) == ("\n", "\n\n")


def test_a_real_server_with_a_short_context_is_told(tuned: Tuned, inspect: Any):
    with llama_server(tuned.gguf, model_alias=["tuned"], n_ctx=256) as url:
        code, found, _ = inspect(tuned, url)
        longest = {"messages": sessions()[0]["turns"][:-1], "max_tokens": 1}
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(f"{url}/v1/chat/completions", longest)
        assert "exceeds the available context size" in refused.value.read().decode()
    assert code == 0
    assert found["too_long"] > 0
    assert found["turns"] + found["too_long"] == 10


def test_a_real_server_that_wants_a_key_is_bad_usage(tuned: Tuned, inspect: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with llama_server(tuned.gguf, model_alias=["tuned"], api_keys=["secret"]) as url:
        code, _, message = inspect(tuned, url)
        assert (code, "--api-key-env" in message, "Traceback" in message) == (2, True, False)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        assert inspect(tuned, url)[0] == 0


MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def merge_as_sentencepiece_does(folder: Path) -> None:
    """Put the merges in the order of the scores, as the hub's files have them; transformers 5.23 writes another."""
    from sentencepiece import SentencePieceProcessor

    score = SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_score
    path = folder / "tokenizer.json"
    spelt = json.loads(path.read_text())
    ids = spelt["model"]["vocab"]
    spelt["model"]["merges"].sort(key=lambda pair: (-score(ids["".join(pair)]), *(ids[piece] for piece in pair)))
    path.write_text(json.dumps(spelt))


@pytest.mark.parametrize(
    ("vocabulary", "legacy"),
    [("tokenizer.model.v1", True), ("mistral_instruct_tokenizer_240323.model.v3", False)],
    ids=["v1", "v3"],
)
def test_sentencepiece_tokenizers_are_served_as_trained(
    converter: Path, inspect: Any, tmp_path: Path, vocabulary: str, legacy: bool
):
    """Mistral's: `tokenizer.json` has no scores, and whether a space is put behind a control token differs."""
    data = pytest.importorskip("mistral_common", reason="needs mistral-common (extra test)")
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    base = tmp_path / "base"
    base.mkdir()
    shutil.copyfile(Path(data.__file__).parent / "data" / vocabulary, base / "tokenizer.model")
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": MISTRAL}
    told = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy} | named
    (base / "tokenizer_config.json").write_text(json.dumps(told))
    AutoTokenizer.from_pretrained(base).save_pretrained(base)
    merge_as_sentencepiece_does(base)
    tokenizer = load_tokenizer(base)
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    shape = {
        "vocab_size": tokenizer.backend.get_vocab_size(with_added_tokens=True),
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 4096,
    }
    MistralForCausalLM(MistralConfig(**shape, **heads)).save_pretrained(base)
    made = tune(converter, base, tmp_path)
    merged, text = AutoTokenizer.from_pretrained(made.merged), "<s>[INST] a  12\n[/INST] ls</s>[INST] x"
    assert merged.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    with llama_server(made.gguf, model_alias=["tuned"]) as url:
        code, found, _ = inspect(made, url)
    assert (code, found["differences"], found["turns"]) == (0, [], 10)
