"""The bodies of requests, read by pydantic, and what a request is refused with, in OpenAI's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 80
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("n", "best_of", "repetition_penalty"), (1,)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "min_p"), (0,)),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice"), ()),
    **dict.fromkeys(("tools", "functions"), ([],)),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "top_k": (0, -1),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
"""Fields that would change the reply and are not offered, with the values that change nothing."""


class ApiError(Exception):
    """A request that gets no result: HTTP status, message, the body's field at fault, and OpenAI's code if any."""

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
    return ApiError(400, f"{param}: found {repr(found)[:_SHOWN]}, expected {expected}.", param)


class Body(BaseModel):
    """A JSON object. Null stands for a field that is not there; unknown fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _offered(cls, data: Any) -> Any:
        given = {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data
        for name in _NEUTRAL.keys() & (given if isinstance(data, dict) else {}):
            if given[name] not in _NEUTRAL[name]:
                raise bad(name, given[name], "it left out: it is not offered here")
        return given


B = TypeVar("B", bound=Body)


def read(kind: type[B], data: bytes) -> B:
    """Read a request's body.

    Raises:
        ApiError: it is no JSON, or a field is missing, has another shape or asks for what is not offered.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(map(str, first["loc"]))
        found = "nothing" if first["type"] == "missing" else repr(first["input"])[:_SHOWN]
        raise ApiError(400, f"{param or 'body'}: found {found}. {first['msg']}.", param or None) from None


def _text_of(content: Any) -> Any:
    """Join a content that comes as a list of text parts."""
    if isinstance(content, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return "".join(str(p.get("text", "")) for p in content)
    return content


def _prompts(value: Any) -> list[str | list[int]]:
    """Read a prompt, or a list of prompts, of texts or token ids."""

    def is_one(item: Any) -> bool:
        ids = isinstance(item, list) and bool(item) and all(type(i) is int and i >= 0 for i in item)
        return ids or isinstance(item, str)

    prompts = [value] if is_one(value) else value
    if not isinstance(prompts, list) or not prompts or not all(map(is_one, prompts)):
        raise bad("prompt", value, "a text, token ids, or a list of these")
    return prompts


Name = Annotated[str, Field(min_length=1)]


class ChatMessage(Body):
    """A turn; tool calls are not rendered here."""

    role: str
    content: Annotated[str, BeforeValidator(_text_of)]
    tool_calls: list[Any] = Field([], max_length=0)


class Completion(Body):
    """What both kinds of completions ask for, with OpenAI's defaults; `return_token_ids` is vLLM's."""

    model: Name
    max_tokens: int | None = Field(None, ge=1, validation_alias=AliasChoices("max_completion_tokens", "max_tokens"))
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    stop: Annotated[list[Name], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = Field([], max_length=16)
    stream: bool = False
    stream_options: dict[str, Any] = {}
    return_token_ids: bool = False
    logprobs: Any = None

    @property
    def alternatives(self) -> int | None:
        """Alternatives to give with each token's log-probability, None for no log-probabilities."""
        none = self.logprobs is None or self.logprobs is False
        return None if none else getattr(self, "top_logprobs", self.logprobs)


class Chat(Completion):
    """The body of ``/v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

    @model_validator(mode="after")
    def _logprobs_asked_for(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise bad("top_logprobs", self.top_logprobs, "logprobs: true beside it")
        return self


class Text(Completion):
    """The body of ``/v1/completions``; prompts are texts or token ids."""

    prompt: Annotated[list[str | list[int]], PlainValidator(_prompts)]
    logprobs: int | None = Field(None, ge=0, le=20)


class Tokenize(Body):
    """The body of ``/tokenize``: a text or a chat; prompts are tokenised as they are served."""

    model: str = "base"
    prompt: str | None = None
    messages: list[ChatMessage] = []
    add_generation_prompt: Literal[True] = True


class Unload(Body):
    """The body of vLLM's ``/v1/unload_lora_adapter``."""

    lora_name: Name


class Load(Unload):
    """The body of vLLM's ``/v1/load_lora_adapter``."""

    lora_path: Name
    load_inplace: bool = False
