"""JSON over HTTP: one request, retried while that can help, bounded in size and time, never redirected."""

from __future__ import annotations

import functools
import ipaddress
import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds; the pause doubles, and Retry-After may ask for the longest
ANSWER_BYTES = 64 * 1024**2
_RETRIED = (408, 409, 425, 429)
_REDIRECT, _CLIENT_ERROR, _SERVER_ERROR, _NOT_IMPLEMENTED = 300, 400, 500, 501
_SHOWN = 300


class Refused(UsageError):
    """The server refuses the request for good.

    Args:
        url: what was asked.
        status: the HTTP status, or the code of an error object under status 200.
        text: the beginning of what the server said.
    """

    def __init__(self, url: str, status: int, text: str) -> None:
        self.url, self.status, self.text = url, status, text
        hint = " Redirects are refused, so that the key never leaves the named host." if status < _CLIENT_ERROR else ""
        super().__init__(f"{url}: found HTTP {status} {text}, expected an answer.{hint}")


class Unanswered(InfrastructureError):
    """No attempt got an answer.

    Args:
        message: what was tried.
        status: the last HTTP status, 0 where there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class UnexpectedAnswer(InfrastructureError):
    """The server's answer has an unexpected form."""


class _Transient(Exception):
    """An attempt failed in a way that a retry may fix."""

    def __init__(self, text: str, status: int = 0, pause: float = 0.0) -> None:
        self.status, self.pause = status, pause
        super().__init__(text)


def ask(
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    key: str = "",
    timeout: float = 120.0,
    attempts: int = ATTEMPTS,
    largest: int = ANSWER_BYTES,
) -> Any:
    """Send JSON and return the JSON that comes back.

    Asked again, after a pause: timeouts, connections that break (also in the middle of an answer), HTTP 408, 409, 425,
    429 (after the server's own Retry-After) and 5xx but 501, and an error object of these codes under status 200.

    Args:
        url: where to.
        body: what to POST; GET where it is None.
        key: sent as a bearer token where it is not empty.
        timeout: seconds for one whole attempt.
        attempts: how often it is tried.
        largest: bytes of an answer that are read.

    Raises:
        Refused: the server refuses the request (another 4xx, or a redirect).
        Unanswered: no attempt succeeded.
        UnexpectedAnswer: the answer is no JSON, or too large.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    pause, fault = FIRST_PAUSE, _Transient("not tried")
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(max(pause, fault.pause), LONGEST_PAUSE))
            pause *= 2
        try:
            return _parsed(url, _sent(url, body, headers, timeout, largest))
        except _Transient as error:
            fault = error
        except (httpx.TransportError, httpx.DecodingError) as error:
            fault = _Transient(str(error) or type(error).__name__)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url}: {error}, expected a URL such as http://127.0.0.1:8000/v1.") from None
    raise Unanswered(f"{url}: no answer in {attempts} attempts ({fault})", fault.status)


def _sent(url: str, body: Mapping[str, Any] | None, headers: dict[str, str], timeout: float, largest: int) -> bytes:
    """Send one request and read its answer whole."""
    deadline = time.monotonic() + timeout
    method = "GET" if body is None else "POST"
    with _client(_local(url)).stream(method, url, json=body, headers=headers, timeout=timeout) as response:
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > largest:
                raise UnexpectedAnswer(f"{url}: found an answer of more than {largest} bytes")
            if time.monotonic() > deadline:
                raise _Transient(f"the answer took more than {timeout:g} s")
        if response.status_code >= _REDIRECT:
            pause = _retry_after(response.headers.get("Retry-After", ""))
            raise _fault(url, response.status_code, _shown(bytes(data)), pause)
        return bytes(data)


def _parsed(url: str, data: bytes) -> Any:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer(f"{url}: found {data[:_SHOWN]!r}, expected JSON (as in a chat completion)") from None
    error = answer.get("error") if isinstance(answer, dict) else None
    if error:
        details = error if isinstance(error, dict) else {"message": error}
        code = details.get("code")
        status = code if isinstance(code, int) and code >= _CLIENT_ERROR else _SERVER_ERROR
        raise _fault(url, status, str(details.get("message") or error)[:_SHOWN])
    return answer


def _fault(url: str, status: int, text: str, pause: float = 0.0) -> Exception:
    if status in _RETRIED or (status >= _SERVER_ERROR and status != _NOT_IMPLEMENTED):
        return _Transient(f"HTTP {status} {text}", status, pause)
    return Refused(url, status, text)


def _retry_after(value: str) -> float:
    """Return the seconds that a server asks to wait, as a number or as a date; 0 where it asks for none."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _shown(data: bytes) -> str:
    return " ".join(data[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]


@functools.cache
def _client(local: bool) -> httpx.Client:
    """Return the client of this process; a proxy of the environment is not used for local servers."""
    return httpx.Client(follow_redirects=False, trust_env=not local, limits=httpx.Limits(max_connections=None))


def _local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_url(text: str) -> bool:
    """Return whether a text is an http(s) address."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
