"""What a request is refused with, in OpenAI's shape."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that gets no result.

    Args:
        status: the HTTP status.
        message: what was found and what is expected.
        param: the field of the body, where one is at fault.
        code: OpenAI's code, where clients look for one.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        self.status, self.message, self.param, self.code = status, message, param, code
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """Return the JSON to answer with."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")  # noqa: PLR2004 - HTTP's own border
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def bad(param: str, found: Any, expected: str) -> ApiError:
    """Return the refusal of a field."""
    shown = repr(found)
    return ApiError(400, f"{param}: found {shown[:80]}, expected {expected}.", param)
