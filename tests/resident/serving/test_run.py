"""Where the endpoint may be bound, and that it is there and gone again."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import pytest

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident.serving.run import read_address, serving


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("127.8.9.1:80", ("127.8.9.1", 80)),
    ],
)
def test_an_address_of_this_machine_needs_no_key(
    text: str, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THE_KEY", raising=False)
    assert read_address(text, "THE_KEY") == address


@pytest.mark.parametrize("text", ["8000", "127.0.0.1", ":8000", "127.0.0.1:", "127.0.0.1:65536", "host:-1", "host:8x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--serve: found .+ expected HOST:PORT"):
        read_address(text, "THE_KEY")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.5", "gpu-box", "example.org"])
def test_other_machines_are_served_with_a_key_only(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (None, ""):
        if key is None:
            monkeypatch.delenv("THE_KEY", raising=False)
        else:
            monkeypatch.setenv("THE_KEY", key)
        with pytest.raises(UsageError, match=r"there is no key\. Set THE_KEY"):
            read_address(f"{host}:80", "THE_KEY")
    monkeypatch.setenv("THE_KEY", "secret")
    assert read_address(f"{host}:80", "THE_KEY") == (host.strip("[]"), 80)


def test_an_address_in_use_is_told_and_one_is_free_again_after_serving() -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    app = Starlette(routes=[Route("/v1/x", lambda _: PlainTextResponse("here"))])
    with serving(app, "127.0.0.1", 0) as url:
        port = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
        with urllib.request.urlopen(f"{url}/x", timeout=10) as answer:  # the loopback's own server
            assert answer.read() == b"here"
        with (
            pytest.raises(RunFailed, match=f"--serve 127.0.0.1:{port}: cannot bind it"),
            serving(app, "127.0.0.1", port),
        ):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_does_not_start_is_told() -> None:
    app: Any = "no_such_module:app"  # uvicorn gives up in its thread
    with pytest.raises(RunFailed, match="the server did not start"), serving(app, "127.0.0.1", 0):
        pass
