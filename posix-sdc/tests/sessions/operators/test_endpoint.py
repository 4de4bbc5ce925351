"""An endpoint as operator, against a server in this process."""

import functools
import json

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.sessions.operators.endpoint import SCAFFOLD, EndpointOperator, bare
from tiararodney.posix_sdc.support import chat_completions, http_json
from tiararodney.posix_sdc.support.chat_completions import API_KEY, Endpoint

MESSAGES = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "$ "}]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(http_json, "FIRST_PAUSE", 0.01)


def asked(server, **settings):
    """Return an operator that asks the server."""
    return EndpointOperator(Endpoint(server.url, "m", **settings))


def says(text):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_the_reply_is_the_models_and_the_scaffold_stands_before_the_orientation(server):
    server.answers = [says("ls")]
    assert asked(server).reply(MESSAGES) == "ls"
    ((path, body, key),) = server.requests
    assert (path, body["model"], body["temperature"], key) == ("/v1/chat/completions", "m", 0.0, None)
    assert body["messages"] == [{"role": "system", "content": f"{SCAFFOLD}\n\nA terminal."}, MESSAGES[1]]
    assert MESSAGES[0]["content"] == "A terminal."


def test_without_a_scaffold_the_messages_go_as_they_are(server):
    server.answers = [says("ls")]
    EndpointOperator(Endpoint(server.url + "/chat/completions", "m"), scaffold="").reply(MESSAGES)
    assert server.requests[0][:1] == ("/v1/chat/completions",)
    assert server.requests[0][1]["messages"] == MESSAGES


def test_a_key_in_the_environment_is_sent(server, monkeypatch):
    monkeypatch.setenv(API_KEY, "k")
    server.answers = [says("ls")]
    asked(server).reply(MESSAGES)
    assert server.requests[0][2] == "Bearer k"


def test_a_failing_server_is_asked_again(server):
    server.answers = [(503, b"busy"), (429, b"slow down"), says("exit")]
    assert asked(server).reply(MESSAGES) == "exit"


def test_a_server_that_keeps_failing_is_a_fault_of_ours(server):
    server.answers = [(500, b"boom")] * 2
    with pytest.raises(InfrastructureError, match=r"no answer in 2 attempts \(HTTP 500 boom\)"):
        asked(server, attempts=2).reply(MESSAGES)


def test_a_refused_request_is_the_users_mistake(server):
    server.answers = [(404, b'{"error": "no model m"}')]
    with pytest.raises(UsageError, match=r"HTTP 404 .*no model m.*Check --operator, --model"):
        asked(server).reply(MESSAGES)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [b"<html>", {}, {"choices": []}, {"choices": [{"text": "ls"}]}, [1]])
def test_an_answer_that_is_no_chat_completion_is_named(server, answer):
    server.answers = [(200, answer)]
    with pytest.raises(InfrastructureError, match=r"expected .*a chat completion"):
        asked(server).reply(MESSAGES)


def test_nobody_listening_is_a_fault_of_ours():
    with pytest.raises(InfrastructureError, match="no answer in 1 attempts"):
        EndpointOperator(Endpoint("http://127.0.0.1:9/v1", "m", attempts=1)).reply(MESSAGES)


@pytest.mark.parametrize(
    ("reply", "command"),
    [
        ("ls", "ls"),
        ("```\nls -l\n```", "ls -l"),
        ("```sh\ncat <<E\nx\nE\n```\n", "cat <<E\nx\nE"),
        ("$ ls\n", "ls"),
        ("Run ```ls``` now", "Run ```ls``` now"),
        ("<think>a file?\n```sh\nrm\n```</think>\n\nls", "ls"),
        ("", ""),
    ],
)
def test_one_fence_and_a_prompt_sign_are_taken_off(reply, command):
    assert bare(reply) == command


def test_a_redirect_is_not_followed_with_the_key(server, monkeypatch):
    monkeypatch.setenv(API_KEY, "k")
    server.answers = [(307, b"over there")]
    server.headers = {"Location": f"{server.url}/elsewhere"}
    with pytest.raises(UsageError, match="HTTP 307"):
        asked(server).reply(MESSAGES)
    assert len(server.requests) == 1


def test_a_server_that_names_its_pause_is_given_it(server, monkeypatch):
    pauses = []
    monkeypatch.setattr(http_json.time, "sleep", pauses.append)
    server.answers = [(429, b""), says("ls")]
    server.headers = {"Retry-After": "7"}
    assert asked(server).reply(MESSAGES) == "ls"
    assert pauses == [7.0]


def test_an_answer_without_end_is_cut(server, monkeypatch):
    monkeypatch.setattr(chat_completions, "ask", functools.partial(http_json.ask, largest=1000))
    server.answers = [(200, b"x" * 100_000)]
    with pytest.raises(InfrastructureError, match="more than 1000 bytes"):
        asked(server).reply(MESSAGES)


def test_the_scaffold_is_told_to_the_model_and_stands_in_no_record(server, scenario, monkeypatch):
    """The session that is recorded is the one that a model without a scaffold would see."""
    from tiararodney.posix_sdc.sessions import loop as rollout
    from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
    from tiararodney.posix_sdc.worlds.protocol import _unusable

    if (reason := _unusable("bwrap")) is not None:
        pytest.skip(reason)
    replies = ["echo hello", "```sh\ntouch done\n```", "exit"]
    server.answers = [says(r) for r in replies]
    played = rollout.run_session(scenario(), asked(server), "bwrap")
    scripted = rollout.run_session(scenario(), ScriptedOperator(["echo hello", "touch done", "exit"]), "bwrap")
    assert played.outcome == "success"
    assert played.turns == scripted.turns
    assert "Whatever you reply is typed" not in json.dumps(played.to_json())
    for n, (_, body, _) in enumerate(server.requests):
        told = [{"role": t.role, "content": t.content} for t in played.turns[: 2 + 2 * n]]
        assert body["messages"] == [{"role": "system", "content": f"{SCAFFOLD}\n\n{told[0]['content']}"}, *told[1:]]
