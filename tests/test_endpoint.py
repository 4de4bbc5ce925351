"""The client against a server on the loopback that answers as a script says."""

from __future__ import annotations

from typing import Any

import pytest

from tiararodney.posix_sdc.support.http_json import ATTEMPTS
from tiararodney.sekft.endpoint import Completion, Endpoint, PosixSdcError, Unanswered
from tiararodney.sekft.errors import UsageError

MESSAGES = [{"role": "system", "content": "s"}, {"role": "user", "content": "$ "}]
REPLY = {"choices": [{"message": {"content": "ls"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}


def ask(server: Any, **changes: Any) -> Completion:
    return Endpoint(server.url, "tuned", **({"timeout": 5.0} | changes)).chat(MESSAGES, 64, 0.0, 3)


def test_messages_go_out_structured_and_the_reply_comes_back(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [(200, REPLY)]
    monkeypatch.setenv("MY_KEY", "secret")
    assert ask(server, key_variable="MY_KEY") == Completion("ls", "stop", prompt_tokens=9)
    body = {"model": "tuned", "messages": MESSAGES, "max_tokens": 64, "temperature": 0.0, "seed": 3}
    assert server.asked == [("/v1/chat/completions", "Bearer secret", body)]


def test_a_busy_server_is_asked_again(server: Any) -> None:
    server.answers = [(503, "busy"), (429, "slow down"), (200, REPLY)]
    assert ask(server).text == "ls"
    assert len(server.asked) == 3


def test_a_server_that_stays_down_is_our_fault_and_no_reply(server: Any) -> None:
    server.answers = [(500, "boom")] * ATTEMPTS
    with pytest.raises(Unanswered, match=r"no answer in 5 attempts \(HTTP 500"):
        ask(server)


def test_a_reply_cut_at_its_limit_says_so(server: Any) -> None:
    server.answers = [(200, {"choices": [{"message": {"content": "ls -"}, "finish_reason": "length"}]})]
    assert ask(server) == Completion("ls -", "length")


def test_a_session_that_outgrew_the_context_gets_an_empty_reply(server: Any) -> None:
    server.answers = [(400, {"error": {"message": "This model's maximum context length is 2048 tokens."}})] * 2
    assert (ask(server).text, ask(server).finish_reason) == ("", "context")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((400, "bad field"), "HTTP 400 bad field"),
        ((404, "no such model"), "HTTP 404 no such model"),
        ((200, "<html>"), "expected JSON"),
        ((200, {"choices": []}), r"expected a chat completion \(choices\[0\]"),
    ],
)
def test_a_refusal_or_another_kind_of_answer_ends_the_run(server: Any, answer: tuple[int, Any], expected: str) -> None:
    server.answers = [answer]
    with pytest.raises(PosixSdcError, match=expected):
        ask(server)
    assert len(server.asked) == 1


def test_the_check_names_the_models_that_there_are(server: Any) -> None:
    server.answers = [(200, {"data": [{"id": "a"}, {"id": "b"}]})] * 2
    with pytest.raises(UsageError, match=r"--model tuned: the endpoint serves a, b"):
        Endpoint(server.url, "tuned").check()
    Endpoint(server.url, "b").check()


def test_the_check_lets_a_server_without_a_list_pass_and_a_refused_key_not(server: Any) -> None:
    server.answers = [(404, "nope"), (401, "no key")]
    Endpoint(server.url, "tuned").check()
    with pytest.raises(UsageError, match="--api-key-env"):
        Endpoint(server.url, "tuned").check()


def test_nothing_listening_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"Start the server, or correct the URL"):
        Endpoint("http://127.0.0.1:9/v1", "m", timeout=2).check()


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://host:x/v1", "http://[::1/v1"])
def test_what_is_no_url_is_bad_usage(url: str) -> None:
    with pytest.raises(UsageError, match="--endpoint: found"):
        Endpoint(url, "m").check()


@pytest.mark.parametrize("url", ["http://h/v1", "http://h/v1/", "http://h/v1/chat/completions"])
def test_the_routes_are_found_from_any_of_its_urls(url: str) -> None:
    endpoint = Endpoint(url, "m")
    assert (endpoint.api, endpoint.root) == ("http://h/v1", "http://h")
