"""The HTTP application: OpenAI's routes, vLLM's routes for adapters and tokens, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tiararodney.sekft.errors import RunFailed, SekftError
from tiararodney.sekft.eval.operators import stop_ids
from tiararodney.sekft.render import check_contract, contract_tokenizer
from tiararodney.sekft.resident.serving.replies import Replies, Served, chunk, last_chunk, render_chat, usage, whole
from tiararodney.sekft.resident.serving.requests import ApiError, Chat, Load, Text, Tokenize, Unload, bad, read
from tiararodney.sekft.resident.state import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from tiararodney.sekft.resident.serving.requests import Body
    from tiararodney.sekft.resident.state import Resident


class Server:
    """The routes, and what they work on.

    Args:
        resident: with the hot base.
        folders: adapters may be loaded over HTTP from below these.
        api_key: what clients have to send as bearer token; empty for none.
    """

    def __init__(self, resident: Resident, folders: Sequence[Path] = (), api_key: str = "") -> None:
        self.resident, self.base, self.generator = resident, resident.base, resident.generator
        self.name, self.api_key = resident.base.path.name, api_key
        self._folders = [folder.resolve() for folder in folders]
        self._read = lru_cache(maxsize=64)(self._read_contract)
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
            self._route("/health", self.health),
            self._route("/metrics", self.show_metrics),
            self._route("/v1/models", self.list_models),
            self._route("/v1/models/{name:path}", self.show_model),
            self._route("/v1/chat/completions", self.complete, Chat),
            self._route("/v1/completions", self.complete, Text),
            self._route("/tokenize", self.tokenize, Tokenize),
            self._route("/v1/load_lora_adapter", self.load, Load),
            self._route("/v1/unload_lora_adapter", self.unload, Unload),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._no_such_route})

    def _route(self, path: str, handler: Callable[[Any], Awaitable[Response]], kind: type[Body] | None = None) -> Route:
        """Return a route that asks for the key, reads a body of its kind, and counts the answer."""

        async def respond(request: Request) -> Response:
            given, key = request.headers.get("authorization", ""), f"Bearer {self.api_key}"
            # headers are bytes, which starlette reads as Latin-1
            if self.api_key and path != "/health" and not hmac.compare_digest(given.encode("latin-1"), key.encode()):
                raise ApiError(401, "found no valid key, expected 'Authorization: Bearer KEY'.")
            return await handler(request if kind is None else read(kind, await request.body()))

        async def answer(request: Request) -> Response:
            try:
                response = await respond(request)
            except ApiError as error:
                response = _refusal(error)
            except SekftError as error:
                response = _refusal(ApiError(500 if isinstance(error, RunFailed) else 400, str(error)))
            except ClientDisconnect:
                response = Response(status_code=400)
            except Exception:  # a defect: starlette answers and logs it
                self.requests.labels(path, "500").inc()
                raise
            self.requests.labels(path, str(response.status_code)).inc()
            return response

        return Route(path, answer, methods=["GET" if kind is None else "POST"])

    async def complete(self, asked: Chat | Text) -> Response:
        """``POST /v1/chat/completions`` and ``/v1/completions``."""
        served, loop = self.find(asked.model), asyncio.get_running_loop()
        replies = await run_in_threadpool(Replies, self.generator, asked, served, loop)
        if asked.stream:
            return StreamingResponse(self._stream(replies), media_type="text/event-stream")
        with self._counted(replies):
            async for _ in replies.events():
                pass
        return JSONResponse(whole(replies))

    async def _stream(self, replies: Replies) -> AsyncIterator[str]:
        with self._counted(replies):
            try:
                if isinstance(replies.asked, Chat):
                    yield _event(chunk(replies, 0, "", None, first=True))
                async for index, text, token in replies.events():
                    yield _event(chunk(replies, index, text, token))
                if replies.asked.stream_options.get("include_usage"):
                    yield _event(last_chunk(replies))
                yield "data: [DONE]\n\n"
            except ApiError as error:
                yield _event(error.body())

    @contextmanager
    def _counted(self, replies: Replies) -> Iterator[None]:
        try:
            with self.running.track_inprogress():
                yield
        finally:
            replies.cancel()  # of a client that went away; nothing where all is done
            used = usage(replies)
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
        names = (self.name, *self.base.adapters.folders)
        return JSONResponse({"object": "list", "data": [self._card(name) for name in names]})

    async def show_model(self, request: Request) -> Response:
        """``GET /v1/models/NAME``."""
        return JSONResponse(self._card(self.find(request.path_params["name"]).name))

    def _card(self, name: str) -> dict[str, Any]:
        base, folder = self.base, self.base.adapters.folders.get(name)
        own = {"root": str(base.path), "parent": None, "max_model_len": self.generator.context}
        card = {"id": name, "object": "model", "created": self.started, "owned_by": "sekft"}
        return card | (own if folder is None else {"root": str(folder), "parent": self.name})

    async def tokenize(self, asked: Tokenize) -> Response:
        """``POST /tokenize``: a prompt's or a chat's token ids, as vLLM's."""
        served = self.find(asked.model)
        if asked.prompt is None and not asked.messages:
            raise bad("prompt", None, "a text, or messages in its place")
        ids = render_chat(served, asked.messages) if asked.messages else served.tokenizer.encode(asked.prompt or "")
        return JSONResponse({"count": len(ids), "max_model_len": self.generator.context, "tokens": ids})

    async def load(self, asked: Load) -> Response:
        """``POST /v1/load_lora_adapter`` in vLLM's shape."""
        await run_in_threadpool(self.attach, asked.lora_name, asked.lora_path, in_place=asked.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def unload(self, asked: Unload) -> Response:
        """``POST /v1/unload_lora_adapter`` in vLLM's shape."""
        await run_in_threadpool(self.detach, asked.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    def find(self, name: str) -> Served:
        """Return what a name stands for; ``base`` is the base whatever it is called.

        Raises:
            ApiError: 404, no such model.
            ContractMismatch: the adapter's contract does not hold for this base.
        """
        state = self.base.adapters
        if (folder := state.folders.get(name)) is not None:
            return self._read(name, folder, state.version(name))
        if name in (self.name, "base", str(self.base.path)):
            return self._read(self.name, None, 0)
        known = ", ".join([self.name, *state.folders])
        raise ApiError(404, f"model {name!r} is not served here. Served: {known}.", "model", "model_not_found")

    def _read_contract(self, name: str, folder: Path | None, _version: int | None) -> Served:
        """Read what serves an adapter (no folder: the base); another adapter of that name has another version."""
        tokenizer = self.base.tokenizer
        if folder is not None:
            check_contract(folder, tokenizer)
            tokenizer = contract_tokenizer(tokenizer, folder)
        eos = getattr(self.base.model.generation_config, "eos_token_id", None)
        return Served(name, None if folder is None else name, tokenizer, stop_ids(tokenizer, eos))

    def attach(self, name: str, path: str, *, in_place: bool) -> None:
        """Attach an adapter, as vLLM's ``/v1/load_lora_adapter``; `in_place` replaces one of that name.

        Raises:
            ApiError: the path is not below an allowed folder, or the name is taken.
            UsageError: the adapter does not fit the base.
        """
        from tiararodney.sekft.model import attach_adapter, detach_adapter

        folder = Path(path).expanduser().resolve()
        if not any(folder.is_relative_to(allowed) for allowed in self._folders):
            told = ", ".join(map(str, self._folders)) or "none; start with --adapter-dir DIR"
            raise ApiError(403, f"lora_path: {path} is not below a folder that may be served ({told}).", "lora_path")
        if name in (self.name, "base"):
            raise ApiError(400, f"lora_name: {name!r} is the base's name. Choose another.", "lora_name")
        with self._turn():
            if name in self.base.adapters.folders:
                if not in_place:
                    message = f"lora_name: {name!r} is loaded already. Unload it, or give load_inplace: true."
                    raise ApiError(400, message, "lora_name")
                if not (folder / "adapter_config.json").is_file():  # before the one that it replaces is gone
                    raise ApiError(400, f"lora_path: found no adapter_config.json in {folder}.", "lora_path")
                detach_adapter(self.base, name)
            attach_adapter(self.base, folder, name)

    def detach(self, name: str) -> None:
        """Take an adapter off, as vLLM's ``/v1/unload_lora_adapter``."""
        from tiararodney.sekft.model import detach_adapter

        with self._turn():
            if name not in self.base.adapters.folders:
                raise ApiError(404, f"lora_name: {name!r} is not loaded.", "lora_name")
            detach_adapter(self.base, name)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the turn: a job that walks over the model's modules must not meet adapters that come and go."""
        try:
            with self.resident.turn(Job(0, "load or unload over HTTP", "HTTP")):
                yield
        except KeyboardInterrupt:  # which would end the server
            raise ApiError(503, "cancelled while it waited for a job to end.") from None

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        self.requests.labels("other", str(error.status_code)).inc()
        refused = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}.")
        return JSONResponse(refused.body(), refused.status, error.headers)


def _refusal(error: ApiError) -> Response:
    return JSONResponse(error.body(), error.status)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
