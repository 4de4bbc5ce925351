"""The local models of a run: a base, its adapters attached, and the generator that batches their sessions."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval.operators import Decoding, LocalPlayer, stop_ids
from tiararodney.sekft.eval.report import ADAPTER, LOCAL
from tiararodney.sekft.render import contract_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.eval.operators import Player
    from tiararodney.sekft.eval.report import Contestant
    from tiararodney.sekft.model import Base, Generator
    from tiararodney.sekft.tokenizer import FileTokenizer

_NO_LIMIT = 1 << 30


class LocalModels:
    """Loads a base where none is given, attaches the run's adapters, and gives a player for each contestant.

    Leaving it detaches the adapters; a base that was given stays as it was.

    Args:
        config: the run.
        base: a base that is loaded already, None to load ``config.base``.
        field: the contestants that play; those of other kinds are left out.

    Raises:
        UsageError: the base cannot be loaded, or an adapter does not fit it.
    """

    def __init__(self, config: EvalConfig, base: Base | None, field: Sequence[Contestant]) -> None:
        self.config, self.field = config, [c for c in field if c.kind in LOCAL]
        self._given = base
        self._stack = ExitStack()
        self.players: dict[str, Player] = {}
        self._generator: Generator | None = None

    def __enter__(self) -> Self:
        """Load and attach everything before the first session: an adapter that does not fit is refused at once."""
        from tiararodney.sekft.model import Generator, attach_adapter, detach_adapter, load_base

        config = self.config
        with self._stack as stack:
            base = self._given
            if base is None:
                assert config.base is not None
                base = load_base(
                    config.base, config.load_4bit, config.device, config.dtype, cache=not config.no_base_cache
                )
            for contestant in self.field:
                if contestant.kind == ADAPTER:
                    name = attached_name(contestant)
                    attach_adapter(base, contestant.path, name)
                    stack.callback(detach_adapter, base, name)
                    check_applied(base, name, contestant.path)
            generator = self._generator = Generator(base, max_batch=config.concurrency, kv_gib=config.kv_memory)
            for contestant in self.field:
                adapter = attached_name(contestant) if contestant.kind == ADAPTER else None
                tokenizer = _tokenizer(base, contestant)
                self.players[contestant.name] = local_player(contestant.name, adapter, generator, tokenizer, config)
            self._stack = stack.pop_all()
        return self

    def cancel(self) -> None:
        """End the replies that are being generated, for a run that is interrupted; no session goes on with them."""
        if self._generator is not None:
            self._generator.cancel()

    def __exit__(self, *error: object) -> None:
        """Detach the adapters."""
        self._stack.close()


def local_player(
    name: str, adapter: str | None, generator: Generator, tokenizer: FileTokenizer, config: EvalConfig
) -> LocalPlayer:
    """Return who plays with a base, or with an adapter that hangs on it.

    Args:
        name: what the recorder calls it.
        adapter: the attached adapter's name, None for the base.
        generator: over the base.
        tokenizer: renders, encodes and decodes for it.
        config: how replies are drawn.
    """
    from tiararodney.sekft.model import Sampling

    decoding = Decoding(config.max_new_tokens, config.temperature, config.seed)
    sampling = Sampling(
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        seed=decoding.seed,
        stop_ids=stop_ids(tokenizer, getattr(generator.base.model.generation_config, "eos_token_id", None)),
    )

    def generate(ids: Sequence[int], key: str) -> tuple[Sequence[int], bool]:
        reply = generator.submit(ids, sampling, adapter=adapter, key=key).result()
        if reply.finish == "cancelled":
            raise KeyboardInterrupt
        return reply.ids, reply.stopped

    return LocalPlayer(name, generate, tokenizer, generator.context or _NO_LIMIT, decoding)


def check_applied(base: Base, name: str, path: str) -> None:
    """Refuse an adapter with which the base predicts the same as without: its rates would be the base's.

    Args:
        base: what it hangs on.
        name: what it is called there.
        path: its folder, for the message.

    Raises:
        UsageError: not one logit differs.
    """
    from tiararodney.sekft.model import changes_logits

    if not changes_logits(base, name):
        raise UsageError(
            f"--adapter {path}: the base predicts the same with and without it (all its weights may be zero). "
            "Train it, or leave it out."
        )


def attached_name(contestant: Contestant) -> str:
    """Return a name of the run's own: the same adapter may hang on a resident's base already."""
    return f"eval_{contestant.fingerprint[-16:]}"


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


def _tokenizer(base: Base, contestant: Contestant) -> FileTokenizer:
    """Return what renders for a contestant: for an adapter, the base's with the template it was trained with."""
    tokenizer: FileTokenizer = base.tokenizer
    if contestant.kind != ADAPTER:
        return tokenizer
    try:
        return contract_tokenizer(tokenizer, contestant.path)
    except ContractMismatch:
        if contestant.contract == "match":
            raise
        return tokenizer  # it has no contract that can be read, and the user chose to go on
