"""Chat completions over a server in this process: what is asked again, what is refused, what is handed on."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.sessions.operators.endpoint import EndpointOperator
from tiararodney.posix_sdc.support import http_json
from tiararodney.posix_sdc.support.chat_completions import CONTEXT, Completion, Endpoint, chat, served_models

MESSAGES = [{"role": "user", "content": "$ "}]


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between attempts, none of them waited for."""
    found = []
    monkeypatch.setattr(http_json.time, "sleep", found.append)
    return found


def says(content, finish="stop", **more):
    choice = {"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


def test_a_completion_carries_reason_and_tokens(server):
    server.answers = [says("ls", "length")]
    assert chat(Endpoint(server.url, "m"), MESSAGES) == Completion("ls", "length", "", 7, 2)


def test_a_body_cut_short_is_asked_again(server, pauses):
    """Content-Length promises more than comes before the connection ends."""
    server.answers = [(200, b'{"choices": [{"mess'), says("ls")]
    server.headers = {"Content-Length": "500"}

    def answer(_):
        if len(server.requests) > 1:
            server.headers = {}
        return server.answers_left.pop(0)

    server.answers_left, server.answers = server.answers, answer
    assert chat(Endpoint(server.url, "m"), MESSAGES).text == "ls"
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [429, 503, None, "overloaded"])
def test_an_error_object_under_200_is_asked_again(server, pauses, code):
    server.answers = [(200, {"error": {"code": code, "message": "busy"}}), says("ls")]
    assert chat(Endpoint(server.url, "m"), MESSAGES).text == "ls"
    assert len(pauses) == 1


def test_an_error_object_that_stays_is_refused(server):
    server.answers = [(200, {"error": {"code": 404, "message": "no model m"}})]
    with pytest.raises(UsageError, match="HTTP 404 no model m"):
        chat(Endpoint(server.url, "m"), MESSAGES)


def test_retry_after_may_be_a_date(server, pauses):
    server.answers = [(429, b""), says("ls")]
    server.headers = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)}
    chat(Endpoint(server.url, "m"), MESSAGES)
    assert 35 < pauses[0] <= 40


def test_no_server_can_ask_for_more_than_the_longest_pause(server, pauses):
    server.answers = [(429, b""), says("ls")]
    server.headers = {"Retry-After": "86400"}
    chat(Endpoint(server.url, "m"), MESSAGES)
    assert pauses == [http_json.LONGEST_PAUSE]


def test_refused_parameters_are_replaced_once_for_all_requests(server):
    def answer(body):
        bad = next((k for k in ("max_tokens", "seed", "temperature") if k in body), None)
        if bad:
            return 400, {"error": {"message": f"Unsupported parameter: '{bad}' is not supported with this model."}}
        return says("exit")

    server.answers = answer
    endpoint = Endpoint(server.url, "m", max_tokens=9)
    assert chat(endpoint, MESSAGES, seed=1).text == "exit"
    asked = len(server.requests)
    assert chat(endpoint, MESSAGES, seed=1).text == "exit"
    assert len(server.requests) == asked + 1
    assert server.requests[-1][1] == {"model": "m", "messages": MESSAGES, "max_completion_tokens": 9}


def test_a_refusal_that_names_no_parameter_is_final(server):
    server.answers = [(400, {"error": {"message": "bad request"}})]
    with pytest.raises(UsageError, match=r"HTTP 400 .*bad request"):
        chat(Endpoint(server.url, "m"), MESSAGES)


def test_a_conversation_over_the_context_is_a_reason_to_stop(server):
    server.answers = [(400, {"error": {"message": "This model's maximum context length is 4096 tokens."}})]
    assert chat(Endpoint(server.url, "m"), MESSAGES) == Completion("", CONTEXT)


@pytest.mark.parametrize(
    ("more", "hidden"),
    [({"reasoning_content": "hm"}, "reasoning"), ({"tool_calls": [{"id": "1"}]}, "tool_calls"), ({}, "")],
)
def test_an_empty_reply_tells_why(server, caplog, monkeypatch, more, hidden):
    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    server.answers = [says(None, "tool_calls", **more)] * 2
    assert chat(Endpoint(server.url, "m"), MESSAGES) == Completion("", "tool_calls", hidden, 7, 2)
    assert EndpointOperator(Endpoint(server.url, "m"), scaffold="").reply(MESSAGES) == ""
    assert "no content (finish_reason tool_calls" + (f", {hidden} present)" if hidden else ")") in caplog.text


def test_content_in_parts_is_joined(server):
    server.answers = [says([{"type": "text", "text": "ls"}, {"type": "text", "text": " -l"}])]
    assert chat(Endpoint(server.url, "m"), MESSAGES).text == "ls -l"


def test_an_answer_that_drips_is_given_up(server):
    """Each byte comes in time, the answer does not."""

    def answer(_):
        import time

        time.sleep(2)
        return says("ls")

    server.answers = answer
    with pytest.raises(InfrastructureError, match="no answer in 1 attempts"):
        chat(Endpoint(server.url, "m", timeout=0.3, attempts=1), MESSAGES)


@pytest.mark.parametrize("url", ["ftp://x/v1", "http://", "http://[::1", "localhost:8000"])
def test_what_is_no_url_is_told(url):
    assert http_json.is_url(url) is False


def test_a_server_without_models_route_names_none(server):
    with pytest.raises(UsageError):
        served_models(Endpoint(server.url, "m"))
