"""The local models of a run: a base, its adapters attached, and the generator that batches their sessions."""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval.operators import LocalPlayer, stop_ids
from tiararodney.sekft.eval.report import ADAPTER
from tiararodney.sekft.render import contract_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.report import Contestant
    from tiararodney.sekft.model import Base, Generator
    from tiararodney.sekft.render import Tokenizer


@contextmanager
def local_players(
    config: EvalConfig, base: Base | None, field: Sequence[Contestant]
) -> Iterator[tuple[dict[str, LocalPlayer], Callable[[], None]]]:
    """Attach a run's adapters until the block is left; one that does not fit is refused before the first session.

    Args:
        config: the run.
        base: a base that is loaded already and stays as it was, None to load ``config.base``.
        field: the base and the adapters that play.

    Yields:
        A player for each contestant, and what ends the replies under way when the run is interrupted.

    Raises:
        UsageError: the base cannot be loaded, or an adapter does not fit it or changes nothing.
    """
    from tiararodney.sekft.model import Generator, attach_adapter, changes_logits, detach_adapter, load_base

    if base is None:
        assert config.base is not None
        base = load_base(config.base, config.load_4bit, config.device, config.dtype, cache=not config.no_base_cache)
    with ExitStack() as stack:
        # A name of the run's own: the same adapter may hang on a resident's base already.
        names = {c.name: f"eval_{c.fingerprint[-16:]}" if c.kind == ADAPTER else None for c in field}
        for contestant in field:
            if (name := names[contestant.name]) is not None:
                attach_adapter(base, contestant.path, name)
                stack.callback(detach_adapter, base, name)
                if not changes_logits(base, name):
                    raise UsageError(
                        f"--adapter {contestant.path}: the base predicts the same with and without it (all its "
                        "weights may be zero). Train it, or leave it out."
                    )
        generator = Generator(base, max_batch=config.concurrency, kv_gib=config.kv_memory)
        players = {c.name: local_player(names[c.name], generator, _tokenizer(base, c), config) for c in field}
        yield players, generator.cancel


def local_player(adapter: str | None, generator: Generator, tokenizer: Tokenizer, config: EvalConfig) -> LocalPlayer:
    """Return who plays with a base, or with an adapter that hangs on it.

    Args:
        adapter: the attached adapter's name, None for the base.
        generator: over the base.
        tokenizer: renders, encodes and decodes for it.
        config: how replies are drawn.
    """
    from tiararodney.sekft.model import Sampling

    sampling = Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=config.seed,
        stop_ids=stop_ids(tokenizer, getattr(generator.base.model.generation_config, "eos_token_id", None)),
    )

    def generate(ids: Sequence[int], key: str) -> tuple[Sequence[int], bool]:
        try:
            reply = generator.submit(ids, sampling, adapter=adapter, key=key).result()
        except CancelledError:
            raise KeyboardInterrupt from None
        return reply.ids, reply.stopped

    return LocalPlayer(generate, tokenizer, generator.context, config.max_new_tokens)


def precision_of(config: EvalConfig, base: Base | None) -> dict[str, str] | None:
    """Return the compute type of the local models and why it was chosen; None where none plays."""
    if config.endpoint or config.operator is not None:
        return None
    if base is not None:
        return {"dtype": str(base.dtype).removeprefix("torch."), "reason": base.dtype_reason}
    from tiararodney.sekft.model.base import find_device
    from tiararodney.sekft.model.precision import choose_dtype

    chosen = choose_dtype(config.dtype, find_device(config.device))
    return {"dtype": chosen.name, "reason": chosen.reason}


def _tokenizer(base: Base, contestant: Contestant) -> Tokenizer:
    """Return what renders for a contestant: for an adapter, the base's with the template it was trained with."""
    tokenizer: Tokenizer = base.tokenizer
    if contestant.kind == ADAPTER:
        try:
            return contract_tokenizer(tokenizer, contestant.path)
        except ContractMismatch:
            if contestant.contract == "match":
                raise  # else it has no contract that can be read, and the user chose to go on
    return tokenizer
