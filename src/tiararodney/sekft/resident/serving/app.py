"""The HTTP application: OpenAI's routes, vLLM's routes for adapters and tokens, health and metrics."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tiararodney.sekft.resident.serving import shapes
from tiararodney.sekft.resident.serving.generate import Replies, render_chat
from tiararodney.sekft.resident.serving.requests import ApiError, Chat, Load, Text, Tokenize, Unload, bad, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tiararodney.sekft.model import Generator
    from tiararodney.sekft.resident.serving.models import ServedModels
    from tiararodney.sekft.resident.serving.requests import B

MAX_BODY = 1 << 25
"""Bytes of a request's body that are read: no session comes near."""


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
        self.registry = r = CollectorRegistry()
        self.requests = Counter("sekft_requests", "Requests by route and status.", ["route", "status"], registry=r)
        self.running = Gauge("sekft_requests_running", "Completions under way.", registry=r)
        self.tokens = {
            kind: Counter(f"sekft_{kind}_tokens", f"{text} tokens by model.", ["model"], registry=r)
            for kind, text in (("prompt", "Prompt"), ("cached", "Cached prompt"), ("generated", "Generated"))
        }

    def app(self) -> Starlette:
        """Return the application."""
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
            Route("/v1/models", self.list_models),
            Route("/v1/models/{name:path}", self.show_model),
            _post("/v1/chat/completions", Chat, self.complete),
            _post("/v1/completions", Text, self.complete),
            _post("/tokenize", Tokenize, self.tokenize),
            _post("/v1/load_lora_adapter", Load, self.load),
            _post("/v1/unload_lora_adapter", Unload, self.unload),
        ]
        app = Starlette(routes=routes, exception_handlers={ApiError: _refuse, HTTPException: _refuse})
        app.add_middleware(_Guard, server=self)
        return app

    async def complete(self, asked: Chat | Text) -> Response:
        """``POST /v1/chat/completions`` and ``/v1/completions``."""
        served = self.models.find(asked.model)
        replies = await run_in_threadpool(Replies, self.generator, asked, served)
        replies.start()
        self.running.inc()
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
            if isinstance(replies.asked, Chat):
                yield _event(shapes.chunk(replies, 0, "", None, first=True))
            async for index, text, token in replies.events():
                yield _event(shapes.chunk(replies, index, text, token))
            if replies.asked.stream_options.get("include_usage"):
                yield _event(shapes.last_chunk(replies))
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield _event(error.body())
        finally:
            replies.cancel()  # a client that went away; nothing where all is done
            self._count(replies)

    def _count(self, replies: Replies) -> None:
        used = shapes.usage(replies)
        self.running.dec()
        counts = used["prompt_tokens"], used["prompt_tokens_details"]["cached_tokens"], used["completion_tokens"]
        for kind, count in zip(("prompt", "cached", "generated"), counts, strict=True):
            self.tokens[kind].labels(replies.asked.model).inc(count)

    async def health(self, _: Request) -> Response:
        """``GET /health``: the resident lives."""
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, _: Request) -> Response:
        """``GET /metrics``: Prometheus text."""
        return PlainTextResponse(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

    async def list_models(self, _: Request) -> Response:
        """``GET /v1/models``: the base and its adapters, as vLLM lists them."""
        names = (self.models.name, *self.models.base.adapters.folders)
        return JSONResponse({"object": "list", "data": [self._card(name) for name in names]})

    async def show_model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        return JSONResponse(self._card(self.models.find(request.path_params["name"]).name))

    def _card(self, name: str) -> dict[str, Any]:
        base, folder = self.models.base, self.models.base.adapters.folders.get(name)
        own = {"root": str(base.path), "parent": None, "max_model_len": self.generator.context}
        card = {"id": name, "object": "model", "created": self.started, "owned_by": "sekft"}
        return card | (own if folder is None else {"root": str(folder), "parent": self.models.name})

    async def tokenize(self, asked: Tokenize) -> Response:
        """``POST /tokenize``: a prompt's or a chat's token ids, as vLLM's."""
        served = self.models.find(asked.model)
        if asked.messages:
            ids = render_chat(served, asked.messages)
        elif asked.prompt is not None:
            ids = served.tokenizer.encode(asked.prompt)
        else:
            raise bad("prompt", None, "a text, or messages in its place")
        return JSONResponse({"count": len(ids), "max_model_len": self.generator.context, "tokens": ids})

    async def load(self, asked: Load) -> Response:
        """``POST /v1/load_lora_adapter`` in vLLM's shape."""
        await run_in_threadpool(self.models.load, asked.lora_name, asked.lora_path, in_place=asked.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def unload(self, asked: Unload) -> Response:
        """``POST /v1/unload_lora_adapter`` in vLLM's shape."""
        await run_in_threadpool(self.models.unload, asked.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")


def _post(path: str, kind: type[B], handler: Callable[[B], Awaitable[Response]]) -> Route:
    """Return a route that reads its body first."""

    async def answer(request: Request) -> Response:
        data = bytearray()
        try:
            async for piece in request.stream():
                data += piece
                if len(data) > MAX_BODY:
                    raise ApiError(413, f"found a body over {MAX_BODY} bytes.")
        except ClientDisconnect:
            return Response(status_code=400)
        return await handler(read(kind, data))

    return Route(path, answer, methods=["POST"])


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
            status = message.get("status", status)
            await send(message)

        try:
            if self._admits(scope):
                await self.app(scope, receive, counted)
            else:
                error = ApiError(401, "found no valid key, expected 'Authorization: Bearer KEY'.")
                await JSONResponse(error.body(), 401)(scope, receive, counted)
        finally:
            self.server.requests.labels(getattr(scope.get("route"), "path", "other"), str(status)).inc()

    def _admits(self, scope: Any) -> bool:
        if not self.server.api_key or scope["path"] == "/health":
            return True
        sent = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(sent, b"Bearer " + self.server.api_key.encode())


async def _refuse(request: Request, error: Exception) -> Response:
    headers = None
    if isinstance(error, HTTPException):  # starlette's own: no such route or method
        headers = error.headers
        error = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, headers)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
