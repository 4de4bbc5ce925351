"""The HTTP application: OpenAI's routes, vLLM's routes for adapters and tokens, health and metrics."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tiararodney.sekft.render import SessionRefused, render_prompt
from tiararodney.sekft.resident.serving import shapes
from tiararodney.sekft.resident.serving.errors import ApiError, bad
from tiararodney.sekft.resident.serving.generate import Replies
from tiararodney.sekft.resident.serving.metrics import Metrics
from tiararodney.sekft.resident.serving.requests import CHAT, TEXT, read_completion, read_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tiararodney.sekft.model import Generator
    from tiararodney.sekft.resident.serving.models import ServedModels

MAX_BODY = 1 << 25
"""Bytes of a request's body that are read: no session comes near."""
_OPEN = ("/health", "/ping")


class Server:
    """What the routes work on.

    Args:
        models: the names that are served.
        generator: over the hot base.
        api_key: what clients have to send as bearer token; empty for none.
    """

    def __init__(self, models: ServedModels, generator: Generator, api_key: str = "") -> None:
        self.models, self.generator, self.api_key = models, generator, api_key
        self.started = int(time.time())
        self.metrics = Metrics()
        for name, kind, text in (
            ("sekft_requests_total", "counter", "Requests by route and status."),
            ("sekft_prompt_tokens_total", "counter", "Prompt tokens by model."),
            ("sekft_cached_tokens_total", "counter", "Prompt tokens whose keys and values were cached, by model."),
            ("sekft_generated_tokens_total", "counter", "Generated tokens by model."),
            ("sekft_requests_running", "gauge", "Completions under way."),
        ):
            self.metrics.declare(name, kind, text)

    def app(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/health", self.health),
            Route("/ping", self.health),
            Route("/metrics", self.show_metrics),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            Route("/v1/chat/completions", self._json(self.chat), methods=["POST"]),
            Route("/v1/completions", self._json(self.complete), methods=["POST"]),
            Route("/tokenize", self._json(self.tokenize), methods=["POST"]),
            Route("/detokenize", self._json(self.detokenize), methods=["POST"]),
            Route("/v1/load_lora_adapter", self._json(self.load), methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._json(self.unload), methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={ApiError: _refuse, HTTPException: _not_found})
        app.add_middleware(_Guard, server=self)
        return app

    # ------------------------------------------------------------------------------------------------- completions

    async def chat(self, body: Any) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._answer(body, CHAT)

    async def complete(self, body: Any) -> Response:
        """``POST /v1/completions``; prompts may be token ids."""
        return await self._answer(body, TEXT)

    async def _answer(self, body: Any, kind: str) -> Response:
        asked = read_completion(body, kind)
        served = self.models.find(asked.model)
        replies = await run_in_threadpool(Replies, self.generator, asked, served)
        replies.start()
        self.metrics.add("sekft_requests_running", 1)
        if asked.stream:
            return StreamingResponse(self._stream(replies), media_type="text/event-stream")
        try:
            async for _ in replies.events():
                pass
        finally:
            self._count(replies)
        return JSONResponse(shapes.whole(replies))

    async def _stream(self, replies: Replies) -> AsyncIterator[str]:
        try:
            if replies.asked.kind == CHAT:
                for index in range(len(replies.replies)):
                    yield _event(shapes.first_chunk(replies, index))
            async for index, text, token in replies.events():
                reply = replies.replies[index]
                if text or reply.done is not None or token is not None:
                    yield _event(shapes.chunk(replies, index, text, token, reply))
            if replies.asked.usage_in_stream:
                yield _event(shapes.last_chunk(replies))
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield _event(error.body())
        finally:
            replies.cancel()  # a client that went away; nothing where all is done
            self._count(replies)

    def _count(self, replies: Replies) -> None:
        used, name = shapes.usage(replies), replies.asked.model
        self.metrics.add("sekft_requests_running", -1)
        self.metrics.add("sekft_prompt_tokens_total", used["prompt_tokens"], model=name)
        self.metrics.add("sekft_cached_tokens_total", used["prompt_tokens_details"]["cached_tokens"], model=name)
        self.metrics.add("sekft_generated_tokens_total", used["completion_tokens"], model=name)

    # -------------------------------------------------------------------------------------------------- everything else

    async def health(self, _: Request) -> Response:
        """``GET /health``: the resident lives."""
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, _: Request) -> Response:
        """``GET /metrics``: Prometheus text."""
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def list_models(self, _: Request) -> Response:
        """``GET /v1/models``: the base and its adapters, as vLLM lists them."""
        cards = [self._card(self.models.name, None)]
        cards += [self._card(name, str(folder)) for name, folder in self.models.names().items()]
        return JSONResponse({"object": "list", "data": cards})

    async def show_model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        served = self.models.find(request.path_params["name"])
        folder = self.models.names().get(served.name)
        return JSONResponse(self._card(served.name, None if folder is None else str(folder)))

    def _card(self, name: str, folder: str | None) -> dict[str, Any]:
        card: dict[str, Any] = {"id": name, "object": "model", "created": self.started, "owned_by": "sekft"}
        if folder is None:
            return card | {"root": str(self.models.base.path), "parent": None, "max_model_len": self.generator.context}
        return card | {"root": folder, "parent": self.models.name}

    async def tokenize(self, body: Any) -> Response:
        """``POST /tokenize``: a prompt's or a chat's token ids, as vLLM's."""
        fields = _object(body)
        served = self.models.find(fields.get("model") or self.models.name)
        if "messages" in fields:
            if fields.get("add_generation_prompt", True) is not True:
                raise bad("add_generation_prompt", fields["add_generation_prompt"], "true: prompts are what is served")
            try:
                ids = render_prompt(served.tokenizer, read_messages(fields["messages"]))
            except (SessionRefused, ValueError) as error:
                raise ApiError(400, f"messages: {error}", "messages") from None
        elif isinstance(fields.get("prompt"), str):
            ids = served.tokenizer.encode(fields["prompt"])
        else:
            raise bad("prompt", fields.get("prompt"), "a text, or messages in its place")
        return JSONResponse({"count": len(ids), "max_model_len": self.generator.context, "tokens": ids})

    async def detokenize(self, body: Any) -> Response:
        """``POST /detokenize``: the text of token ids, as vLLM's."""
        fields = _object(body)
        served = self.models.find(fields.get("model") or self.models.name)
        ids = fields.get("tokens")
        if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
            raise bad("tokens", ids, "a list of token ids")
        return JSONResponse({"prompt": served.tokenizer.decode(ids)})

    async def load(self, body: Any) -> Response:
        """``POST /v1/load_lora_adapter`` in vLLM's shape."""
        fields = _object(body)
        name, path = _named(fields, "lora_name"), _named(fields, "lora_path")
        in_place = fields.get("load_inplace", False)
        if not isinstance(in_place, bool):
            raise bad("load_inplace", in_place, "true or false")
        await run_in_threadpool(self.models.load, name, path, in_place=in_place)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, body: Any) -> Response:
        """``POST /v1/unload_lora_adapter`` in vLLM's shape."""
        name = _named(_object(body), "lora_name")
        await run_in_threadpool(self.models.unload, name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    def _json(self, route: Callable[[Any], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return a route that reads its body as JSON first."""

        async def read(request: Request) -> Response:
            data = bytearray()
            try:
                async for piece in request.stream():
                    data += piece
                    if len(data) > MAX_BODY:
                        raise ApiError(413, f"found a body over {MAX_BODY} bytes.")
            except ClientDisconnect:
                return Response(status_code=400)
            try:
                body = json.loads(data)
            except (ValueError, RecursionError):
                raise ApiError(400, "found no JSON, expected a JSON object.") from None
            return await route(body)

        return read


class _Guard:
    """Refuses requests without the key, and counts all of them. Plain ASGI, so that streams pass unbuffered."""

    def __init__(self, app: Any, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._admits(scope):
                await self.app(scope, receive, counted)
            else:
                error = ApiError(401, "found no valid key, expected 'Authorization: Bearer KEY'.")
                await JSONResponse(error.body(), 401)(scope, receive, counted)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self.server.metrics.add("sekft_requests_total", 1, route=path, status=str(status))

    def _admits(self, scope: Any) -> bool:
        if not self.server.api_key or scope["path"] in _OPEN:
            return True
        sent = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(sent, b"Bearer " + self.server.api_key.encode())


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")
    return JSONResponse(said.body(), said.status, headers=error.headers)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ApiError(400, f"found {type(body).__name__}, expected a JSON object.")
    return body


def _named(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise bad(name, value, "a text")
    return value
