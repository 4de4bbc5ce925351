"""Generate replies for a batch of prompts, prefilling only what the KV cache of an earlier call does not hold."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from tiararodney.sekft.model.base import Base
from tiararodney.sekft.model.kv import KeptPrefixes, batch_cache, row_of, select_rows

SHRINK = 0.75  # rows that are done leave the batch once fewer than this share still runs


@dataclass(frozen=True)
class Generated:
    """One reply.

    Attributes:
        ids: The new token ids, without the stop token.
        stopped: Whether a stop token ended it; False means that the limit cut it off.
    """

    ids: list[int]
    stopped: bool


class Generator:
    """Generates with a base and keeps the KV cache, so that a session's next turn prefills only what is new.

    Args:
        base: The base, with whatever adapter is active when a call is made.
        kept_tokens: How many tokens' keys and values to keep between calls, oldest dropped first; 0 keeps none.
    """

    def __init__(self, base: Base, kept_tokens: int = 65536) -> None:
        self.base = base
        self._kept = KeptPrefixes(kept_tokens)

    def forget(self) -> None:
        """Drop every kept cache."""
        self._kept.clear()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        stop_ids: Collection[int],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[Generated]:
        """Continue every prompt.

        Args:
            prompts: Token ids, ragged.
            stop_ids: Tokens that end a reply.
            max_new_tokens: The limit of a reply, in tokens.
            temperature: 0 is greedy; above, samples are drawn from the softmax at this temperature.
            seed: Of the draws. A prompt's draws do not depend on what else is in the batch.

        Returns:
            One reply a prompt, in order.
        """
        if not prompts:
            return []
        if any(not prompt for prompt in prompts):
            raise ValueError("a prompt without tokens cannot be continued")
        stops = frozenset(stop_ids)
        draw = _Draw(prompts, temperature, seed)
        with torch.inference_mode():
            batch = _Batch(self.base, self._kept, prompts, max_new_tokens)
            logits = batch.prefill()
            for step in range(max_new_tokens):
                batch.accept(draw(logits, batch.live), stops)
                if not batch.live or step + 1 == max_new_tokens:
                    break
                logits = batch.step()
            batch.keep()
        return [_ended(reply, stops) for reply in batch.replies]


def generate_batch(
    base: Base,
    prompts: Sequence[Sequence[int]],
    stop_ids: Collection[int],
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """Continue every prompt once, keeping nothing. See `Generator.generate`.

    Args:
        base: The base, with whatever adapter is active.
        prompts: Token ids, ragged.
        stop_ids: Tokens that end a reply.
        max_new_tokens: The limit of a reply, in tokens.
        temperature: 0 is greedy.
        seed: Of the draws.

    Returns:
        The new ids of every prompt, without the stop token.
    """
    replies = Generator(base, kept_tokens=0).generate(prompts, stop_ids, max_new_tokens, temperature, seed)
    return [reply.ids for reply in replies]


def _ended(reply: list[int], stops: frozenset[int]) -> Generated:
    if reply and reply[-1] in stops:
        return Generated(reply[:-1], stopped=True)
    return Generated(reply, stopped=False)


class _Batch:
    """The rows of one call: their cache, which of them still run, and what they said.

    Every row of the cache is [padding, kept prefix, padding, new tokens]: a mask says which columns count, position
    ids count the row's own tokens, so padding has no effect on any row's numbers but rounding.
    """

    def __init__(self, base: Base, kept: KeptPrefixes, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        self._base, self._kept = base, kept
        self._prompts = [list(prompt) for prompt in prompts]
        self.replies: list[list[int]] = [[] for _ in prompts]
        self.live = list(range(len(prompts)))
        self._rows = list(range(len(prompts)))  # the prompt that each row of the cache belongs to
        found = [self._kept.longest_prefix(self._base.adapters.active, prompt) for prompt in self._prompts]
        self._past = [length for _, length in found]
        suffix = max(len(prompt) - past for prompt, past in zip(self._prompts, self._past, strict=True))
        self._cache, past_mask = batch_cache(
            found, suffix + max_new_tokens, self._base.model.config.num_hidden_layers, self._base.device
        )
        self._mask = torch.zeros(len(prompts), past_mask.shape[1] + suffix + max_new_tokens, dtype=torch.long)
        self._mask[:, : past_mask.shape[1]] = past_mask
        self._width = past_mask.shape[1]
        self._suffix = suffix

    def prefill(self) -> torch.Tensor:
        ids = torch.zeros(len(self._prompts), self._suffix, dtype=torch.long)
        positions = torch.zeros_like(ids)
        for row, (prompt, past) in enumerate(zip(self._prompts, self._past, strict=True)):
            new = prompt[past:]
            ids[row, -len(new) :] = torch.tensor(new)
            positions[row, -len(new) :] = torch.arange(past, len(prompt))
            self._mask[row, self._width + self._suffix - len(new) : self._width + self._suffix] = 1
        return self._forward(ids, positions)

    def step(self) -> torch.Tensor:
        self._shrink()
        live = set(self.live)
        ids = torch.tensor([[self.replies[prompt][-1] if prompt in live else 0] for prompt in self._rows])
        positions = torch.tensor(
            [[len(self._prompts[prompt]) + len(self.replies[prompt]) - 1] for prompt in self._rows]
        )
        for row, prompt in enumerate(self._rows):
            self._mask[row, self._width] = int(prompt in live)
        return self._forward(ids, positions)

    def accept(self, tokens: list[int], stops: frozenset[int]) -> None:
        for prompt, token in zip(list(self.live), tokens, strict=True):
            self.replies[prompt].append(token)
            if token in stops:
                self.live.remove(prompt)

    def keep(self) -> None:
        for row in range(len(self._rows)):
            self._keep_row(row)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = self._base.device
        self._width += ids.shape[1]
        output = self._base.model(
            input_ids=ids.to(device),
            attention_mask=self._mask[:, : self._width].to(device),
            position_ids=positions.to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1, :]
        live = set(self.live)
        return logits[[row for row, prompt in enumerate(self._rows) if prompt in live]].float().cpu()

    def _shrink(self) -> None:
        if len(self.live) > SHRINK * len(self._rows):
            return
        live = set(self.live)
        stay = [row for row, prompt in enumerate(self._rows) if prompt in live]
        for row, prompt in enumerate(self._rows):
            if prompt not in live:
                self._keep_row(row)
        select_rows(self._cache, torch.tensor(stay, device=self._base.device))
        self._mask = self._mask[stay]
        self._rows = [self._rows[row] for row in stay]

    def _keep_row(self, row: int) -> None:
        if not self._kept.limit:
            return
        prompt = self._rows[row]
        columns = self._mask[row, : self._width].nonzero().squeeze(1)
        seen = (self._prompts[prompt] + self.replies[prompt])[: len(columns)]  # the last token was never fed
        self._kept.add(self._base.adapters.active, seen, row_of(self._cache, row, columns.to(self._base.device)))


class _Draw:
    """Picks the next token of every live row; each prompt has its own stream of random numbers."""

    def __init__(self, prompts: Sequence[Sequence[int]], temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._streams: list[torch.Generator] = []
        if temperature > 0:
            for prompt in prompts:
                key = hashlib.sha256(repr((seed, list(prompt))).encode()).digest()
                stream = torch.Generator()
                stream.manual_seed(int.from_bytes(key[:8], "little") >> 1)
                self._streams.append(stream)

    def __call__(self, logits: torch.Tensor, live: list[int]) -> list[int]:
        if self._temperature <= 0:
            picked: list[int] = logits.argmax(dim=-1).tolist()
            return picked
        chances = torch.softmax(logits / self._temperature, dim=-1)
        return [
            int(torch.multinomial(chances[row], 1, generator=self._streams[prompt])) for row, prompt in enumerate(live)
        ]
