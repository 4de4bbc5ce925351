"""A live server held against the data: servers on the loopback imitate each route, a real tokenizer behind."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from jinja2 import TemplateError

from tiararodney.posix_sdc.support import http_json as client
from tiararodney.sekft.console import run_cli
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.render import Message, canonical_chat_template
from tiararodney.sekft.sft.config import InspectConfig
from tiararodney.sekft.sft.inspection.inspect import run
from tiararodney.sekft.tokenizer import load_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('a late system turn') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory, save_tokenizer):
    """A model folder's tokenizer with a BOS that its template writes, without a model."""
    folder = tmp_path_factory.mktemp("base")
    save_tokenizer(
        folder,
        "$ ls -la cat /etc/motd exit panic user assistant system",
        ("<s>", "<|im_start|>", "<|im_end|>"),
        TEMPLATE,
        bos_token="<s>",
        eos_token="<|im_end|>",
    )
    return folder


@pytest.fixture
def data(tmp_path):
    """Two sessions of three turns each, a system turn first."""
    path = tmp_path / "d.jsonl"
    rows = []
    for n in range(2):
        turns = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "é漢 mail\n$ "}]
        for reply in ("ls -la", f"cat {n}"):
            turns += [{"role": "assistant", "content": reply}, {"role": "user", "content": f"out {n}\n$ "}]
        rows.append(
            {"id": f"t{n}", "keep": True, "verified": True, "turns": [*turns, {"role": "assistant", "content": "exit"}]}
        )
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


class Imitation:
    """A server with a tokenizer and a template of its own.

    Args:
        tok: what it renders and encodes with.
        kind: whose routes it has: ``vllm``, ``llama.cpp`` or ``plain`` (chat completions only).
        twice: it adds a BOS to what the template wrote.
        context: tokens it takes.
        key: what its own routes ask for; as llama.cpp, it tells its models to everybody.
    """

    def __init__(self, tok: Any, kind: str, *, twice: bool = False, context: int = 10_000, key: str = "") -> None:
        self.tok, self.kind, self.twice, self.context, self.key = tok, kind, twice, context, key
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = {"vllm": {"max_model_len": outer.context}, "llama.cpp": {"meta": {"n_ctx": outer.context}}}
                model = {"id": "first", "aliases": ["first", "tuned"]} if outer.kind == "llama.cpp" else {"id": "tuned"}
                self.say(200, {"data": [model | length.get(outer.kind, {})]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(self.path)
                if outer.key and self.headers.get("Authorization") != f"Bearer {outer.key}":
                    return self.say(401, {"error": {"message": "Invalid API Key"}})
                try:
                    self.say(*outer.answer(self.path, body))
                except TemplateError as error:
                    self.say(500 if outer.kind == "llama.cpp" else 400, {"error": {"message": str(error)}})

            def say(self, status: int, answer: Any) -> None:
                out = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # a client that has given up is no fault of a test that comes later
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def text(self, messages: list[dict[str, str]]) -> str:
        return self.tok.render_text([Message(m["role"], m["content"]) for m in messages], add_generation_prompt=True)

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        ids = self.tok.encode(self.text(messages))
        return [self.tok.control_tokens[self.tok.bos_token], *ids] if self.twice else ids

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        match self.kind, path:
            case "vllm", "/tokenize" if "messages" in body:
                ids = self.prompt(body["messages"])
                return 200, {"count": len(ids), "max_model_len": self.context, "tokens": ids, "token_strs": None}
            case "llama.cpp", "/apply-template":
                # The tokenizer adds the BOS, so the template's own is taken off.
                return 200, {"prompt": self.text(body["messages"]).removeprefix("" if self.twice else "<s>")}
            case "llama.cpp", "/tokenize":
                assert body["parse_special"]
                ids = self.tok.encode(body.get("content", ""))
                return 200, {
                    "tokens": [self.tok.control_tokens[self.tok.bos_token], *ids]
                    if body.get("add_special") and "content" in body
                    else ids
                }
            case _, "/v1/chat/completions":
                ids = self.prompt(body["messages"])
                if len(ids) + body["max_tokens"] > self.context:
                    return 400, {"error": {"message": f"maximum context length is {self.context}"}}
                usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
                return 200, {"choices": [{"message": {"content": "l"}, "finish_reason": "length"}], "usage": usage}
        return 404, {"error": "not found"}


@pytest.fixture
def serve(monkeypatch):
    """`serve(tok, kind, ...)` -> a running imitation."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    running: list[Imitation] = []

    def start(*args: Any, **options: Any) -> Imitation:
        server = options.pop("cls", Imitation)(*args, **options)
        threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture
def tok(base):
    return load_tokenizer(base)


@pytest.fixture
def served(tok):
    """What a server with the adapter's template has."""
    return tok.with_template(canonical_chat_template(tok.chat_template))


@pytest.fixture
def look(base, data, capsys):
    """`look(server)` -> exit code and the report's part about the endpoint."""

    def do(server: Imitation, **config: Any) -> tuple[int, dict[str, Any]]:
        settings = {"data": (data,), "base": base, "endpoint": server.url, "model": "tuned", "json": True}
        code = run(InspectConfig(**(settings | {"request_seconds": 5.0} | config)))
        return code, json.loads(capsys.readouterr().out)["endpoint"]

    return do


ROUTES = {
    "vllm": ("vLLM's /tokenize", True),
    "llama.cpp": ("llama.cpp's /apply-template and /tokenize", True),
    "plain": ("usage.prompt_tokens of chat completions", False),
}


@pytest.mark.parametrize("kind", ROUTES)
def test_the_adapters_template_serves_what_was_trained(kind, look, serve, served):
    code, found = look(serve(served, kind))
    assert (code, found["differences"], found["causes"]) == (0, [], [])
    assert (found["route"], found["exact"]) == ROUTES[kind]
    assert (found["sessions"], found["turns"]) == (2, 6)


@pytest.mark.parametrize("kind", ROUTES)
def test_the_models_own_template_differs_from_the_adapters(kind, look, serve, tok):
    code, found = look(serve(tok, kind))
    assert code == 1
    assert len(found["differences"]) == found["turns"] == 6
    (cause,) = found["causes"]
    assert "Serve the adapter with the chat_template.jinja in its folder" in cause


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_a_drifted_template_is_named_with_turn_and_token(kind, look, serve, served):
    drifted = served.with_template(served.chat_template.replace("+ '<|im_end|>\\n' }}", "+ '<|im_end|> ' }}"))
    code, found = look(serve(drifted, kind))
    assert code == 1
    assert [d["turn"] for d in found["differences"]] == [2, 4, 6] * 2
    (cause,) = found["causes"]
    assert "differ in white space alone" in cause
    first = found["differences"][0]
    assert "t0" in first["session"]
    assert (first["trained"], first["served"]) == ("\n", " ")
    assert first["before"].endswith("mail\n$ <|im_end|>")
    session = [Message("user", "A terminal.\n\né漢 mail\n$ ")]
    trained = served.encode(served.render_text(session, add_generation_prompt=True))
    assert (first["trained_length"], first["served_length"]) == (len(trained), len(trained))
    assert served.decode(trained[first["position"] :]) == "\n<|im_start|>assistant\n"


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_a_second_bos_is_named(kind, look, serve, served):
    code, found = look(serve(served, kind, twice=True))
    assert code == 1
    assert found["differences"][0]["position"] == 1
    assert found["differences"][0]["served"] == "<s>"
    (cause,) = found["causes"]
    assert "puts '<s>' in front" in cause


def test_a_second_bos_shows_in_the_count_alone(look, serve, served):
    code, found = look(serve(served, "plain", twice=True))
    assert code == 1
    assert {d["served_length"] - d["trained_length"] for d in found["differences"]} == {1}
    assert {d["position"] for d in found["differences"]} == {None}


def test_a_server_that_counts_no_tokens_tells_no_prompts(look, serve, served):
    class Silent(Imitation):
        def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
            status, answer = super().answer(path, body)
            return status, answer | {"usage": {"prompt_tokens": 0}} if status == 200 else answer

    with pytest.raises(RunFailed, match=r"found no way to its prompts.*'prompt_tokens': 0"):
        look(serve(served, "plain", cls=Silent))


def test_a_missing_generation_prompt_is_named(look, serve, served):
    never = served.chat_template.replace("{% if add_generation_prompt %}", "{% if false %}")
    code, found = look(serve(served.with_template(never), "vllm"))
    assert code == 1
    assert any("a generation prompt" in cause for cause in found["causes"])


@pytest.mark.parametrize(
    ("old", "new", "trained", "shown"),
    [
        ("assistant\\n' }}{% endif", "assistant\\n<think>' }}{% endif", "", "<think>"),
        ("{{ bos_token }}", "", "<s>", "<|im_start|>"),
    ],
)
def test_what_a_template_adds_or_leaves_out_is_shown(old, new, trained, shown, look, serve, served):
    code, found = look(serve(served.with_template(served.chat_template.replace(old, new)), "vllm"))
    assert code == 1
    first = found["differences"][0]
    assert first["trained"] == trained
    assert first["served"]
    assert shown.startswith(first["served"]), "one token of it"
    assert any("another template than the adapter's" in cause for cause in found["causes"])


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp", "plain"])
def test_messages_the_server_refuses_are_a_difference(kind, look, serve, tok):
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + TEMPLATE
    )
    code, found = look(serve(tok.with_template(strict), kind))
    assert code == 1
    assert "no system role here" in found["differences"][0]["refusal"]
    assert any("chat_template.jinja" in cause for cause in found["causes"])


@pytest.mark.parametrize("kind", ROUTES)
def test_prompts_beyond_the_servers_context_are_counted(kind, look, serve, served):
    code, found = look(serve(served, kind, context=45))
    assert code == 0
    assert found["turns"] == 2
    assert found["too_long"] == 4


@pytest.mark.parametrize("kind", ROUTES)
def test_a_server_whose_context_takes_nothing_fails_the_run(kind, look, serve, served):
    with pytest.raises(RunFailed, match="longer than its context"):
        look(serve(served, kind, context=15))


@pytest.mark.parametrize("kind", ROUTES)
def test_a_key_that_prompts_need_is_bad_usage(kind, look, serve, served, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = serve(served, kind, key="secret")
    with pytest.raises(UsageError, match=r"HTTP 401 .*--api-key-env"):
        look(server)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert look(server)[0] == 0


def test_a_refusal_about_context_hides_no_difference(look, serve, tok):
    """llama.cpp shows the template's source around the place that refused."""
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no context, too long') }}{% endif %}"
    code, found = look(serve(tok.with_template(strict + TEMPLATE), "llama.cpp"))
    assert (code, found["too_long"], len(found["differences"])) == (1, 0, 6)


def test_a_template_of_another_family_is_named(look, serve, served):
    other = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant] "
    code, found = look(serve(served.with_template(other), "llama.cpp"))
    assert code == 1
    (cause,) = found["causes"]
    assert "renders with another template" in cause


class Spelling(Imitation):
    """A server whose tokenizer knows no merges: the same text in other tokens."""

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        control = "|".join(map(re.escape, self.tok.control_tokens))
        return [i for piece in re.findall(f"{control}|(?s:.)", self.text(messages)) for i in self.tok.encode(piece)]


def test_the_same_text_in_other_tokens_is_named(look, serve, served):
    code, found = look(serve(served, "vllm", cls=Spelling))
    assert code == 1
    (cause,) = found["causes"]
    assert "cuts the same text into other tokens" in cause


def test_as_many_sessions_are_compared_as_wanted(look, serve, served):
    server = serve(served, "vllm")
    assert look(server, endpoint_sessions=1)[1]["turns"] == 3
    assert server.asked.count("/tokenize") == 4, "one to find the route, one a turn"


class Broken(Imitation):
    """A server that answers its first requests as it should, and then in another way."""

    def __init__(self, *args: Any, after: int, then: Any) -> None:
        super().__init__(*args)
        self.after, self.then = after, then

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if len(self.asked) > self.after:
            return self.then() if callable(self.then) else self.then
        return super().answer(path, body)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ((503, {"error": "overloaded"}), "HTTP 503"),
        ((200, b"<html>"), "expected JSON"),
        ((200, b"["), "expected JSON"),
        ((200, b"[" * 100_000), "expected JSON"),
        ((200, []), "expected the field 'tokens'"),
        ((200, {"tokens": []}), "expected ids"),
        ((200, {"tokens": ["a"]}), "expected ids"),
        ((200, {"tokens": [-1]}), "expected ids"),
        (lambda: (time.sleep(1.5), (200, {}))[1], "timed out"),
    ],
)
def test_a_server_that_breaks_off_fails_the_run(then, message, look, serve, served, capsys):
    server = serve(served, "vllm", cls=Broken, after=4, then=then)
    code = run_cli(lambda: look(server, request_seconds=0.5)[0], "sekft-train")
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "then", [(200, b"<html>"), (404, b"no"), (200, {"tokens": []}), (200, {"usage": {"prompt_tokens": "9"}})]
)
def test_a_server_without_prompts_fails_the_run(then, look, serve, served):
    with pytest.raises(RunFailed, match="found no way to its prompts") as caught:
        look(serve(served, "vllm", cls=Broken, after=0, then=then))
    for name, _ in ROUTES.values():
        assert name in str(caught.value)


def test_tokens_unknown_here_are_shown_by_id(look, serve, served):
    code, found = look(serve(served, "vllm", cls=Broken, after=1, then=(200, {"tokens": [2**40]})))
    assert code == 1
    assert str(2**40) in found["differences"][0]["served"]


def test_a_closed_port_is_bad_usage_before_reading(base, tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        with pytest.raises(UsageError, match="Start the server"):
            run(InspectConfig(data=(tmp_path / "none",), base=base, endpoint=url, model="tuned"))


def test_an_unknown_model_is_bad_usage(look, serve, served):
    with pytest.raises(UsageError, match="the endpoint serves tuned"):
        look(serve(served, "vllm"), model="other")


def test_text_and_page_show_the_difference(base, data, serve, tok, capsys, tmp_path):
    server = serve(tok, "vllm")
    page = tmp_path / "page.html"
    flags = {"endpoint": server.url, "model": "tuned", "html": str(page)}
    assert run(InspectConfig(data=(data,), base=base, **flags)) == 1
    text = capsys.readouterr().out
    assert "0 of 6 turns are served as trained, token by token" in text
    assert "turn 2: token" in text
    for part in ("0 of 6 turns are served as trained", "chat_template.jinja", "turn 2: token"):
        assert part in page.read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--endpoint", "http://h/v1", "--model", "m"], "give that too"),
        (["--inspect", "--endpoint", "http://h/v1"], "--model NAME go together"),
        (["--inspect", "--model", "m"], "--endpoint URL and"),
        (["--inspect", "--endpoint", "h:1", "--model", "m"], "found 'h:1'"),
        (["--inspect", "--endpoint", "http://h/v1", "--model", "m", "--endpoint-sessions", "0"], "--endpoint-sessions"),
        (["--inspect", "--endpoint", "http://h/v1", "--model", "m", "--request-seconds", "nan"], "--request-seconds"),
    ],
)
def test_flags_that_do_not_fit_are_bad_usage(flags, message, data, base, capsys):
    from tiararodney.sekft.sft.cli import main

    assert main(["--data", str(data), "--base", str(base), *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_asks_the_server(data, base, serve, served, tok, capsys):
    from tiararodney.sekft.sft.cli import main

    flags = ["--data", str(data), "--base", str(base), "--inspect", "--model", "tuned", "--endpoint"]
    assert main([*flags, serve(served, "vllm").url]) == 0
    assert "6 of 6 turns are served as trained" in capsys.readouterr().out
    assert main([*flags, serve(tok, "vllm").url]) == 1
