"""An endpoint as operator, against a server in this process."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tiararodney.posix_sdc.endpoint import API_KEY, SCAFFOLD, EndpointOperator, bare
from tiararodney.posix_sdc.errors import InfrastructureError, UsageError

MESSAGES = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "$ "}]


@pytest.fixture
def server():
    """Serve prepared answers: `(status, body)`; requests are kept."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.requests.append((self.path, json.loads(body), self.headers.get("Authorization")))
            status, answer = self.server.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.requests, http.answers = [], []
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


def says(text):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_the_reply_is_the_models_and_the_scaffold_stands_before_the_orientation(server):
    server.answers = [says("ls")]
    assert EndpointOperator(server.url, "m").reply(MESSAGES) == "ls"
    ((path, body, key),) = server.requests
    assert (path, body["model"], body["temperature"], key) == ("/v1/chat/completions", "m", 0.0, None)
    assert body["messages"] == [{"role": "system", "content": f"{SCAFFOLD}\n\nA terminal."}, MESSAGES[1]]
    assert MESSAGES[0]["content"] == "A terminal."


def test_without_a_scaffold_the_messages_go_as_they_are(server):
    server.answers = [says("ls")]
    EndpointOperator(server.url + "/chat/completions", "m", scaffold="").reply(MESSAGES)
    assert server.requests[0][:1] == ("/v1/chat/completions",)
    assert server.requests[0][1]["messages"] == MESSAGES


def test_a_key_in_the_environment_is_sent(server, monkeypatch):
    monkeypatch.setenv(API_KEY, "k")
    server.answers = [says("ls")]
    EndpointOperator(server.url, "m").reply(MESSAGES)
    assert server.requests[0][2] == "Bearer k"


def test_a_failing_server_is_asked_again(server):
    server.answers = [(503, b"busy"), (429, b"slow down"), says("exit")]
    assert EndpointOperator(server.url, "m").reply(MESSAGES) == "exit"


def test_a_server_that_keeps_failing_is_a_fault_of_ours(server):
    server.answers = [(500, b"boom")] * 2
    with pytest.raises(InfrastructureError, match=r"no answer in 2 attempts \(HTTP 500 boom\)"):
        EndpointOperator(server.url, "m", attempts=2).reply(MESSAGES)


def test_a_refused_request_is_the_users_mistake(server):
    server.answers = [(404, b'{"error": "no model m"}')]
    with pytest.raises(UsageError, match=r"HTTP 404 .*no model m.*Check --operator, --model"):
        EndpointOperator(server.url, "m").reply(MESSAGES)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [b"<html>", {}, {"choices": []}, {"choices": [{"text": "ls"}]}, [1]])
def test_an_answer_that_is_no_chat_completion_is_named(server, answer):
    server.answers = [(200, answer)]
    with pytest.raises(InfrastructureError, match="expected a chat completion"):
        EndpointOperator(server.url, "m").reply(MESSAGES)


def test_nobody_listening_is_a_fault_of_ours():
    with pytest.raises(InfrastructureError, match="no answer in 1 attempts"):
        EndpointOperator("http://127.0.0.1:9/v1", "m", attempts=1).reply(MESSAGES)


@pytest.mark.parametrize(
    ("reply", "command"),
    [
        ("ls", "ls"),
        ("```\nls -l\n```", "ls -l"),
        ("```sh\ncat <<E\nx\nE\n```\n", "cat <<E\nx\nE"),
        ("$ ls\n", "ls"),
        ("Run ```ls``` now", "Run ```ls``` now"),
        ("", ""),
    ],
)
def test_one_fence_and_a_prompt_sign_are_taken_off(reply, command):
    assert bare(reply) == command
