"""Who acts in the worlds: a local model with or without an adapter, or a model behind an endpoint.

A `Player` says how each session is answered. Sessions run side by side, each asks as soon as its last command has
answered, and whatever batches their requests (the generator of a local model, a server) does so behind `Answer`.
"""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, PosixSdcError
from tiararodney.sekft.endpoint import Unanswered
from tiararodney.sekft.errors import ContractMismatch, RunFailed, UsageError
from tiararodney.sekft.eval.contestants import ADAPTER
from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.render import Message, contract_tokenizer, render_prompt

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tiararodney.posix_sdc.schema import Scenario
    from tiararodney.sekft.endpoint import Endpoint
    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.contestants import Contestant
    from tiararodney.sekft.model import Base, Generator
    from tiararodney.sekft.render import Tokenizer

    Messages = Sequence[Mapping[str, str]]
    Answer = Callable[[Messages], tuple[str, Generation | None]]  # the reply, and how it came about where that is known
    Player = Callable[[Scenario, int], Answer]  # of a scenario and a sample; called before each attempt at a session


@contextmanager
def local_players(
    config: EvalConfig, base: Base | None, field: Sequence[Contestant]
) -> Iterator[tuple[dict[str, Player], Callable[[], None]]]:
    """Attach a run's adapters until the block is left; one that does not fit is refused before the first session.

    A base that is loaded already stays as it was; None loads ``config.base``.

    Yields:
        A player for each contestant, and what ends the replies under way when the run is interrupted.

    Raises:
        UsageError: the base cannot be loaded, or an adapter does not fit it or changes nothing.
    """
    from tiararodney.sekft.model import Generator, attach_adapter, changes_logits, detach_adapter, load_base

    if base is None:
        assert config.base is not None
        base = load_base(config.base, config.load_4bit, config.device, config.dtype, cache=not config.no_base_cache)
    generator = Generator(base, max_batch=config.concurrency, kv_gib=config.kv_memory)
    players: dict[str, Player] = {}
    with ExitStack() as stack:
        for c in field:
            adapter: str | None = None
            tokenizer = base.tokenizer
            if c.kind == ADAPTER:
                # A name of the run's own: the same adapter may hang on a resident's base already.
                adapter = f"eval_{c.fingerprint[-16:]}"
                attach_adapter(base, c.path, adapter)
                stack.callback(detach_adapter, base, adapter)
                if not changes_logits(base, adapter):
                    raise UsageError(
                        f"--adapter {c.path}: the base predicts the same with and without it (all its weights may be "
                        "zero). Train it, or leave it out."
                    )
                try:
                    tokenizer = contract_tokenizer(tokenizer, c.path)
                except ContractMismatch:
                    if c.contract == "match":
                        raise  # else it has no contract that can be read, and the user chose to go on
            players[c.name] = local_player(adapter, generator, tokenizer, config)
        yield players, generator.cancel


def local_player(adapter: str | None, generator: Generator, tokenizer: Tokenizer, config: EvalConfig) -> Player:
    """Return who plays with a base (`adapter` None), or with an adapter of this name that is attached to it.

    A session whose prompt leaves no room for a reply gets an empty one, as from a server that refuses it.
    """
    from tiararodney.sekft.model import Sampling

    stops = stop_ids(tokenizer, getattr(generator.base.model.generation_config, "eos_token_id", None))
    sampling = Sampling(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed, stop_ids=stops
    )

    def player(scenario: Scenario, sample: int) -> Answer:
        def answer(messages: Messages) -> tuple[str, Generation]:
            ids = render_prompt(tokenizer, messages)
            note = Generation(len(messages), prompt_hash(ids), len(ids), stop="context")
            if generator.context is not None and len(ids) + config.max_new_tokens > generator.context:
                return "", note
            try:  # draws are named by the session, not by the contestant: pairs share them
                reply = generator.submit(ids, sampling, adapter=adapter, key=f"{scenario.id}/{sample}").result()
            except CancelledError:
                raise KeyboardInterrupt from None
            stop = "end" if reply.stopped else "length"
            return reply_text(tokenizer, reply.ids), replace(note, reply_ids=tuple(reply.ids), stop=stop)

        return answer

    return player


def endpoint_player(
    endpoints: Sequence[Endpoint], config: EvalConfig, tokenizer: Tokenizer | None, silent: Counter[str]
) -> Player:
    """Return who plays with a model behind one or several servers (replicas); a session stays with one of them.

    Args:
        endpoints: the servers, each asked for the same model.
        config: limit, temperature and seed of replies; servers may or may not heed the seed.
        tokenizer: renders prompts here, whose token ids are sent; None sends messages, which the server renders.
        silent: counts replies without content, by the reason that the server gave.
    """
    heard: dict[int, float] = {}  # when a server answered last, by index (monotonic seconds)
    stops = frozenset[int]() if tokenizer is None else stop_ids(tokenizer)
    limit, temperature = config.max_new_tokens, config.temperature

    def player(scenario: Scenario, sample: int) -> Answer:
        key = f"{scenario.id}/{sample}"
        index = sum(key.encode()) % len(endpoints)
        # One seed for all would give sessions with the same prompt the same reply.
        seed = int.from_bytes(sha256(f"{config.seed}/{key}".encode()).digest()[:4]) >> 1

        def answer(messages: Messages) -> tuple[str, Generation]:
            endpoint, asked = endpoints[index], time.monotonic()
            ids = [] if tokenizer is None else render_prompt(tokenizer, messages)
            try:
                if tokenizer is None:
                    done = endpoint.chat(messages, limit, temperature, seed)
                else:
                    done = endpoint.complete(ids, limit, temperature, seed, stops)
            except Unanswered as error:
                # Others were answered meanwhile, or the list of models is: then this request alone has no answer.
                if heard.get(index, 0.0) < asked:
                    try:
                        endpoint.check()
                    except UsageError:
                        remedy = "Start the server again; the same command resumes."
                        raise RunFailed(f"--endpoint {error}. {remedy}") from error
                raise
            except PosixSdcError as error:  # the server lives: it spoils this session alone
                raise InfrastructureError(str(error)) from error
            heard[index] = time.monotonic()
            stop = done.finish_reason if done.finish_reason in ("length", "context") else "end"
            if (why := done.without_content) and stop != "context":
                silent[why] += 1
            text = reply_text(tokenizer, done.ids) if tokenizer is not None and done.ids else done.text
            return text, Generation(len(messages), prompt_hash(ids) if ids else "", done.prompt_tokens, done.ids, stop)

        return answer

    return player


def reply_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode a reply as a chat endpoint gives it back: without control tokens, otherwise as it is."""
    control = set(tokenizer.control_tokens.values())
    return tokenizer.decode([i for i in ids if i not in control])


def stop_ids(tokenizer: Tokenizer, eos: int | Sequence[int] | None = None) -> frozenset[int]:
    """Return the tokens that end a reply: the one the template writes after a reply, and the model's own.

    These are the tokenizer's, and `eos`, the `eos_token_id` of the model's generation settings.

    Raises:
        UsageError: there is none, so no reply could ever end by itself.
    """
    found = {eos} if isinstance(eos, int) else set(eos or ())
    control = tokenizer.control_tokens
    if tokenizer.eos_token is not None and tokenizer.eos_token in control:
        found.add(control[tokenizer.eos_token])
    mark = "ls-xq"
    text = tokenizer.render_text([Message("user", "$ "), Message("assistant", mark)], add_generation_prompt=False)
    after = text.rpartition(mark)[2] if mark in text else ""
    found |= set(tokenizer.encode(after.lstrip())[:1]) & set(control.values())
    if not found:
        raise UsageError(
            "the base's chat template and configuration name no token that ends a reply. Add an eos_token."
        )
    return frozenset(found)
