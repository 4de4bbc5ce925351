"""The routes, over a real generator with a tiny base."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tiararodney.sekft.render import render_prompt
from tiararodney.sekft.resident.commands import cancel
from tiararodney.sekft.resident.state import Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch

ONE = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "You have mail.\n$ "}]
GREEDY = {"temperature": 0, "max_tokens": 8}


def chat(client: Any, model: str = "tiny", messages: Any = ONE, **more: Any) -> Any:
    answer = client.post("/v1/chat/completions", json={"model": model, "messages": messages, **GREEDY, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def load(client: Any, adapters: Path, name: str, **more: Any) -> Any:
    return client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(adapters / name), **more})


def plain(base: Path, ids: list[int], n: int, adapter: Path | None = None) -> list[int]:
    """Return transformers' own greedy continuation."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        out = model.eval().generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, do_sample=False, pad_token_id=2
        )
    reply: list[int] = out[0, len(ids) :].tolist()
    return reply[:-1] if reply and reply[-1] == 2 else reply


def test_a_chat_is_answered_as_transformers_would(client: Any, server: Any, tiny_base: Path) -> None:
    answer = chat(client, return_token_ids=True)
    ids = render_prompt(server.base.tokenizer, ONE)
    (choice,) = answer["choices"]
    assert choice["prompt_token_ids"] == ids
    assert choice["token_ids"] == plain(tiny_base, ids, 8)
    assert answer["usage"]["prompt_tokens"] == len(ids)
    assert answer["usage"]["completion_tokens"] >= len(choice["token_ids"])
    assert (answer["object"], answer["model"]) == ("chat.completion", "tiny")
    assert choice["message"]["role"] == "assistant"


def test_token_ids_as_prompt_give_the_same_reply(client: Any, server: Any) -> None:
    ids = render_prompt(server.base.tokenizer, ONE)
    body = {"model": "tiny", "prompt": ids, **GREEDY}
    text = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
    assert text == chat(client)["choices"][0]["message"]["content"]


def test_several_prompts_are_answered_in_order(client: Any) -> None:
    body = {"model": "tiny", "prompt": ["ls", "cat /etc/motd"], **GREEDY}
    both = client.post("/v1/completions", json=body).json()
    alone = [client.post("/v1/completions", json=body | {"prompt": p}).json() for p in body["prompt"]]
    assert [c["text"] for c in both["choices"]] == [a["choices"][0]["text"] for a in alone]
    assert [c["index"] for c in both["choices"]] == [0, 1]


def test_a_stream_gives_the_same_text_in_pieces(client: Any) -> None:
    body = {"model": "tiny", "messages": ONE, **GREEDY, "stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    whole = chat(client)
    assert (
        "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        == (whole["choices"][0]["message"]["content"])
    )
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == whole["choices"][0][
        "finish_reason"
    ]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_a_stop_text_ends_the_reply(client: Any) -> None:
    whole = chat(client, max_tokens=16)["choices"][0]["message"]["content"]
    stop = whole[3:5]
    answer = chat(client, max_tokens=16, stop=[stop])["choices"][0]
    assert answer["message"]["content"] == whole[: whole.index(stop)]
    assert answer["finish_reason"] == "stop"


def test_samples_repeat_by_seed(client: Any) -> None:
    def sample(seed: int) -> str:
        answer = chat(client, temperature=1.0, seed=seed, max_tokens=12)
        return str(answer["choices"][0]["message"]["content"])

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_logprobs_are_the_models(client: Any, server: Any, tiny_base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    answer = chat(client, logprobs=True, top_logprobs=3, return_token_ids=True)["choices"][0]
    ids = render_prompt(server.base.tokenizer, ONE) + answer["token_ids"]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(tiny_base).eval()(torch.tensor([ids])).logits[0]
    start = len(ids) - len(answer["token_ids"])
    expected = torch.log_softmax(logits[start - 1 : -1].float(), -1)
    for row, entry in enumerate(answer["logprobs"]["content"]):
        assert entry["logprob"] == pytest.approx(expected[row, answer["token_ids"][row]].item(), abs=1e-3)
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["logprob"] == pytest.approx(expected[row].max().item(), abs=1e-3)


def test_adapters_are_loaded_listed_served_and_unloaded(
    client: Any, server: Any, adapters: Path, tiny_base: Path
) -> None:
    assert load(client, adapters, "one").status_code == 200
    assert load(client, adapters, "two").status_code == 200
    models = client.get("/v1/models").json()["data"]
    assert [m["id"] for m in models] == ["tiny", "one", "two"]
    assert (models[1]["parent"], models[0]["max_model_len"]) == ("tiny", 4096)
    ids = render_prompt(server.base.tokenizer, ONE)
    for name in ("one", "two"):
        assert chat(client, name, return_token_ids=True)["choices"][0]["token_ids"] == plain(
            tiny_base, ids, 8, adapters / name
        )
    assert client.post("/v1/unload_lora_adapter", json={"lora_name": "one"}).status_code == 200
    gone = client.post("/v1/chat/completions", json={"model": "one", "messages": ONE})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert "Served: tiny, two." in gone.json()["error"]["message"]


def test_an_adapter_is_replaced_in_place_only_when_asked(client: Any, adapters: Path, tmp_path: Path) -> None:
    folder = adapters / "swapped"
    shutil.copytree(adapters / "one", folder)
    try:
        assert load(client, adapters, "swapped").status_code == 200
        first = chat(client, "swapped")["choices"][0]["message"]["content"]
        shutil.rmtree(folder)
        shutil.copytree(adapters / "two", folder)
        refused = load(client, adapters, "swapped")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora_name")
        assert load(client, adapters, "swapped", load_inplace=True).status_code == 200
        assert chat(client, "swapped")["choices"][0]["message"]["content"] != first
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"lora_name": "x", "lora_path": "/etc"}, 403, "not below a folder that may be served"),
        ({"lora_name": "x", "lora_path": "{adapters}/../../etc"}, 403, "not below a folder that may be served"),
        ({"lora_name": "x", "lora_path": "{adapters}/none"}, 400, "no such folder"),
        ({"lora_name": "tiny", "lora_path": "{adapters}/one"}, 400, "the base's name"),
        ({"lora_path": "{adapters}/one"}, 400, "lora_name"),
        ({"lora_name": "x"}, 400, "lora_path"),
        ([], 400, "body: found []"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_refused(
    client: Any, adapters: Path, body: Any, status: int, message: str
) -> None:
    filled = json.loads(json.dumps(body).replace("{adapters}", str(adapters)))
    answer = client.post("/v1/load_lora_adapter", json=filled)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (status, True), answer.text
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["tiny"]


def test_consecutive_turns_and_a_leading_system_turn_render_as_in_training(client: Any, server: Any) -> None:
    """One user message for each key press, as a line editor may send them."""
    keys = [{"role": "user", "content": c} for c in ("l", "s", "\n$ ")]
    messages = [{"role": "system", "content": "A terminal."}, *keys, {"role": "assistant", "content": "pwd"}, *keys]
    expected = render_prompt(server.base.tokenizer, messages)
    tokens = client.post("/tokenize", json={"model": "tiny", "messages": messages}).json()
    assert (tokens["tokens"], tokens["count"], tokens["max_model_len"]) == (expected, len(expected), 4096)
    assert chat(client, messages=messages, return_token_ids=True)["choices"][0]["prompt_token_ids"] == expected


@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "assistant", "content": "ls"}]}, "messages:"),
        ("/v1/chat/completions", {"model": "tiny", "messages": [{"role": "robot", "content": "ls"}]}, "messages:"),
        ("/v1/chat/completions", {"model": "tiny", "messages": ONE, "max_tokens": 5000}, "maximum context length"),
        ("/v1/completions", {"model": "tiny", "prompt": [5, 100000]}, "100000"),
        ("/v1/completions", {"model": "tiny", "prompt": ""}, "without tokens"),
        ("/tokenize", {"model": "tiny"}, "prompt: found None"),
        ("/tokenize", {"model": "tiny", "messages": [{"role": "robot", "content": "ls"}]}, "messages:"),
    ],
)
def test_bad_requests_get_openais_error(client: Any, route: str, body: Any, message: str) -> None:
    answer = client.post(route, json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_broken_json_and_unknown_routes_get_openais_error(client: Any) -> None:
    assert client.post("/v1/completions", content=b"{").status_code == 400
    assert client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    refused = client.get("/v1/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_metrics_count_requests_and_tokens(client: Any) -> None:
    used = chat(client)["usage"]
    client.post("/v1/completions", json={})
    client.get("/v1/nothing")
    text = client.get("/metrics").text
    assert 'sekft_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'sekft_requests_total{route="/v1/completions",status="400"} 1.0' in text
    assert 'sekft_requests_total{route="other",status="404"} 1.0' in text
    assert f'sekft_prompt_tokens_total{{model="tiny"}} {used["prompt_tokens"]}.0' in text
    assert f'sekft_generated_tokens_total{{model="tiny"}} {used["completion_tokens"]}.0' in text
    assert "sekft_requests_running 0.0" in text
    assert "# TYPE sekft_requests_running gauge" in text


def test_a_defect_is_counted_too(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    monkeypatch.setattr(server, "generator", None)
    with TestClient(server.app(), raise_server_exceptions=False) as client:
        assert client.get("/v1/models").status_code == 500
    labels = {"route": "/v1/models", "status": "500"}
    assert server.registry.get_sample_value("sekft_requests_total", labels) == 1


def test_a_load_that_is_cancelled_while_it_waits_is_refused(client: Any, server: Any, adapters: Path) -> None:
    resident = server.resident
    with ThreadPoolExecutor(1) as threads, resident.turn(Job(7, "train")):
        asked = threads.submit(load, client, adapters, "one")
        deadline = time.monotonic() + 60
        while len(resident.queue) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cancel(resident, "0")
        refused = asked.result(60)
    assert (refused.status_code, "cancelled" in refused.json()["error"]["message"]) == (503, True)
    assert load(client, adapters, "one").status_code == 200


def test_a_client_gone_before_the_stream_begins_ends_its_reply(
    url: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiararodney.sekft.resident.serving import app

    read, gone, real = threading.Event(), threading.Event(), app.Replies

    def waits(*args: Any) -> Any:
        read.set()
        gone.wait(60)
        return real(*args)

    monkeypatch.setattr(app, "Replies", waits)
    body = json.dumps({"model": "tiny", "messages": ONE, "stream": True, "max_tokens": 2000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as client:
        client.sendall(head + body)
        assert read.wait(60)
    time.sleep(0.3)  # for the server to see it close
    gone.set()
    deadline = time.monotonic() + 60
    counted: Any = None
    while counted is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        counted = server.registry.get_sample_value("sekft_generated_tokens_total", {"model": "tiny"})
    assert counted < 2000
    assert server.registry.get_sample_value("sekft_requests_running") == 0


def test_a_key_guards_everything_but_health(make_server: Callable[..., Any]) -> None:
    from starlette.testclient import TestClient

    with TestClient(make_server("secret").app()) as client:
        assert client.get("/health").status_code == 200
        refused = client.get("/v1/models")
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
        assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    with TestClient(make_server("schlüssel").app()) as client:
        key = "Bearer schlüssel".encode()
        assert client.get("/v1/models", headers=[(b"authorization", key)]).status_code == 200


def test_openais_own_client_works_unmodified(url: str) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["tiny"]
    whole = client.chat.completions.create(model="tiny", messages=ONE, temperature=0, max_tokens=8)
    pieces = client.chat.completions.create(model="tiny", messages=ONE, temperature=0, max_tokens=8, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == whole.choices[0].message.content
    text = client.completions.create(model="tiny", prompt="ls", temperature=0, max_tokens=4, logprobs=2)
    assert len(text.choices[0].logprobs.token_logprobs) == len(text.choices[0].logprobs.tokens)
    with pytest.raises(openai.NotFoundError, match="model 'gpt' is not served here"):
        client.chat.completions.create(model="gpt", messages=ONE)
    with pytest.raises(openai.BadRequestError, match="tools: found"):
        client.chat.completions.create(
            model="tiny", messages=ONE, tools=[{"type": "function", "function": {"name": "f"}}]
        )


def test_sixteen_clients_over_four_models_get_what_each_gets_alone(url: str, adapters: Path) -> None:
    import httpx

    with httpx.Client(base_url=url.removesuffix("/v1"), timeout=60) as client:
        for name, folder in (("one", "one"), ("two", "two"), ("again", "one")):
            body = {"lora_name": name, "lora_path": str(adapters / folder)}
            assert client.post("/v1/load_lora_adapter", json=body).status_code == 200
        jobs = [
            (model, [*ONE, {"role": "assistant", "content": "ls"}, {"role": "user", "content": f"{i} a.txt\n$ "}])
            for i in range(4)
            for model in ("tiny", "one", "two", "again")
        ]

        def ask(job: Any) -> str:
            model, messages = job
            return str(chat(client, model, messages, max_tokens=12)["choices"][0]["message"]["content"])

        with ThreadPoolExecutor(16) as threads:
            together = list(threads.map(ask, jobs))
        assert together == [ask(job) for job in jobs]
    assert together[1] == together[3] != together[0]  # one adapter under two names, and the base
