"""Folders by hub id: from the cache, else downloaded from a hub that this process serves, else one refusal."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiararodney.sekft import hub
from tiararodney.sekft.errors import UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def answer_of(path: str, repositories: dict[str, Path]) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers with which the hub answers."""
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+|/tree/.+)?", path):
        if found[1] not in repositories:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        files = sorted(repositories[found[1]].iterdir())
        told: object = {"id": found[1], "sha": COMMIT, "siblings": [{"rfilename": file.name} for file in files]}
        if found[2] and found[2].startswith("/tree"):
            told = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
        return 200, json.dumps(told).encode(), {}
    if (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)) and found[1] in repositories:
        data = (repositories[found[1]] / found[2]).read_bytes()
        return 200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
    return 404, b"{}", {"X-Error-Code": "RepoNotFound"}


def serve(repositories: dict[str, Path], asked: list[str]) -> ThreadingHTTPServer:
    """Serve folders as the hub serves repositories."""

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, *, body: bool = True) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            self.answer(*answer_of(path, repositories), body=body)

        def answer(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "curve.png").write_bytes(b"not needed")
    return folder


@pytest.fixture
def served(tiny_base: Path, adapter: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with somebody/tiny and somebody/tuned: its URL, and what it was asked."""
    asked: list[str] = []
    server = serve({"somebody/tiny": tiny_base, "somebody/tuned": adapter}, asked)
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python with an empty hub cache of its own; the hub's URL is read when its client is imported."""

    def run(url: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", **more}
        env.pop("HF_HUB_CACHE", None)
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, env=env)

    return run


def find(name: str, kind: str) -> tuple[str, str]:
    code = (
        "import logging; logging.basicConfig(level='INFO')\n"
        "from tiararodney.sekft import hub\n"
        f"folder = hub.find({name!r}, hub.{kind}, '--base')\n"
        "print(hub.id_of(folder), *sorted(p.name for p in folder.iterdir()))\n"
    )
    return "-c", code


def test_a_model_is_downloaded_once(
    served: tuple[str, list[str]], call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    url, asked = served
    done = call(url, *find("somebody/tiny", "TOKENIZER"))
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" not in done.stdout
    assert "tokenizer.json" in done.stdout
    # a cache that has the tokenizer alone does not pass for the model
    done = call(url, *find("somebody/tiny", "MODEL"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "somebody/tiny"
    assert "model.safetensors" in done.stdout
    assert "--base somebody/tiny: downloading from the hub" in done.stderr
    asked.clear()
    assert call(url, *find("somebody/tiny", "MODEL")).returncode == 0
    assert asked == []


def test_an_adapter_is_downloaded_without_its_pictures(
    served: tuple[str, list[str]], call: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = call(served[0], *find("somebody/tuned", "ADAPTER"))
    assert done.stdout.split() == ["somebody/tuned", "adapter_config.json", "adapter_model.safetensors"]


def test_inspect_takes_a_hub_id(
    served: tuple[str, list[str]], call: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "$ "}, {"role": "assistant", "content": "exit"}]
    (tmp_path / "one.jsonl").write_text(json.dumps({"id": "one", "keep": True, "turns": turns, "verified": True}))
    words = ["-m", "tiararodney.sekft.sft.cli", "--inspect", "--data", str(tmp_path / "one.jsonl")]
    done = call(served[0], *words, "--base", "somebody/tiny")
    assert done.returncode == 0, done.stderr
    assert "1 rendered of 1" in done.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--base", "somebody/tiyn", "--data", "."], "--base somebody/tiyn: no such folder, and no model of that name"),
        (
            ["--base", "somebody/tiny", "--data", "data/wrolds"],
            "--data data/wrolds: no such file or folder, and no data set",
        ),
        (["--base", "../tiny", "--data", "."], "--base ../tiny: no such folder, and not a hub id"),
    ],
)
def test_what_is_nowhere_is_refused_in_one_line(
    served: tuple[str, list[str]],
    call: Callable[..., subprocess.CompletedProcess[str]],
    flags: list[str],
    says: str,
) -> None:
    done = call(served[0], "-m", "tiararodney.sekft.sft.cli", "--inspect", *flags)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"sekft-train: {says}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["sft", "eval", "resident"])
def test_a_hub_that_does_not_answer_is_told_at_once(
    call: Callable[..., subprocess.CompletedProcess[str]], module: str, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    flags = {
        "sft": ["--inspect", "--data", "."],
        "eval": ["--scenarios", str(bundle(tmp_path)), "--out", str(tmp_path / "out")],
        "resident": [],
    }[module]
    started = time.monotonic()
    done = call(url, "-m", f"tiararodney.sekft.{module}.cli", "--base", "somebody/tiny", *flags)
    assert time.monotonic() - started < 20
    assert done.returncode == 2, done.stderr
    assert "--base somebody/tiny: no such folder, not in the hub's cache, and the hub does not answer" in done.stderr
    assert "hf download somebody/tiny" in done.stderr
    assert "Traceback" not in done.stderr


def bundle(folder: Path) -> Path:
    from tiararodney.posix_sdc.cli import main

    assert main(["generate", "--n", "1", "--out", str(folder / "worlds")]) == 0
    return folder / "worlds"


def test_offline_mode_is_respected(call: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    words = ["-m", "tiararodney.sekft.sft.cli", "--inspect", "--data", ".", "--base", "somebody/tiny"]
    done = call("http://127.0.0.1:1", *words, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert re.search("not in the hub's cache, .*HF_HUB_OFFLINE", done.stderr)


def test_folders_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.find("models/tiny", hub.MODEL, "--base") == Path("models/tiny")
    assert not hub.is_hub_id("models/tiny")
    assert hub.id_of(tmp_path) is None
    with pytest.raises(UsageError, match="--adapter nowhere: no such folder, and not a hub id"):
        hub.find("nowhere", hub.ADAPTER, "--adapter")


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": null}', '{"weight_map": {"a": "missing.safetensors"}}'])
def test_an_index_that_is_torn_is_no_complete_model(tmp_path: Path, index: str) -> None:
    for name, text in {"config.json": "{}", "one.safetensors": "", "model.safetensors.index.json": index}.items():
        (tmp_path / name).write_text(text)
    assert not hub.MODEL.complete(tmp_path)
