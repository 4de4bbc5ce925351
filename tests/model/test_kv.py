"""Rows that join and leave a cache keep their own last tokens, whatever happens to the others."""

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from hypothesis import given, settings  # noqa: E402  # torch first, or the whole module is skipped
from hypothesis import strategies as st  # noqa: E402
from transformers import LlamaConfig, Mamba2Config, MistralConfig  # noqa: E402

from tiararodney.sekft.model import kv  # noqa: E402
from tiararodney.sekft.model.kv import Row, new_cache, stack_rows, take_row  # noqa: E402

pytestmark = pytest.mark.torch

WINDOW = 5  # tokens that a layer with a sliding window of 6 keeps


def some_row(length: int, window: int = 1 << 20) -> Row:
    tokens = torch.rand(2, length, 4)[:, -window:]
    return Row(length, ({"keys": tokens, "values": -tokens},))


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(st.sampled_from(["update", "join", "leave"]), max_size=20), st.integers(0, 1 << 16))
def test_rows_keep_their_own_last_tokens(slides: bool, steps: list[str], seed: int):
    """Against rows that are kept each by itself; every row's padding and free columns change at every step."""
    source, window = random.Random(seed), WINDOW if slides else 1 << 20
    torch.manual_seed(seed)
    config = MistralConfig(num_hidden_layers=1, sliding_window=6) if slides else LlamaConfig(num_hidden_layers=1)
    cache, rows = new_cache(config), []
    for step in ["join", *steps]:
        if step == "join":
            fresh = [torch.rand(2, source.randrange(1, 20), 4) for _ in range(source.randrange(1, 4))]
            parts = [{"keys": row[:, -window:], "values": -row[:, -window:]} for row in fresh]
            joined = [Row(row.shape[1], (part,)) for row, part in zip(fresh, parts, strict=True)]
            stack_rows(cache, [(number, row.shape[1]) for number, row in enumerate(rows)], joined)
            rows += fresh
        elif step == "leave" and len(rows) > 1:
            gone = source.randrange(len(rows))
            left = [(number, row.shape[1]) for number, row in enumerate(rows) if number != gone]
            stack_rows(cache, left)
            del rows[gone]
        else:
            new = torch.rand(len(rows), 2, source.randrange(1, 4), 4)
            keys, _ = cache.layers[0].update(new, -new)
            rows = [torch.cat([row, more], dim=1) for row, more in zip(rows, new, strict=True)]
            for row, seen in zip(rows, keys, strict=True):
                count = min(row.shape[1], seen.shape[1])
                assert torch.equal(seen[:, -count:], row[:, -count:])
        assert cache.get_seq_length() == max(row.shape[1] for row in rows)
        for number, row in enumerate(rows):
            held = take_row(cache, number, row.shape[1]).layers[0]
            assert torch.equal(held["keys"], row[:, -window:])
            assert torch.equal(held["values"], -row[:, -window:])


def test_states_follow_their_rows():
    def row(value: float) -> Row:
        return Row(3, ({("conv", 0): torch.full((4, 2), value), ("recurrent", 0): torch.full((5,), -value)},))

    def held(count: int) -> list[Any]:
        return [take_row(cache, number, 3).layers[0] for number in range(count)]

    cache = stack_rows(new_cache(Mamba2Config(num_hidden_layers=1)), (), [row(1.0), row(2.0)])
    stack_rows(cache, [(0, 3), (1, 3)], [row(3.0)])
    stack_rows(cache, [(2, 3), (1, 3)])
    assert [layer["conv", 0][0, 0].item() for layer in held(2)] == [3.0, 2.0]
    assert [layer["recurrent", 0][0].item() for layer in held(2)] == [-3.0, -2.0]


def test_a_row_is_cut_only_where_its_layers_still_hold_the_prefix():
    whole, windowed = some_row(9), some_row(9, WINDOW)
    assert torch.equal(whole.prefix(4).layers[0]["keys"], whole.layers[0]["keys"][:, :4])
    stateful = Row(9, ({("conv", 0): torch.zeros(4, 2)},))
    assert (whole.cuttable, windowed.cuttable, stateful.cuttable) == (True, False, False)
    assert windowed.prefix(9) is windowed


def test_sizes_tell_what_grows_from_what_does_not():
    row = Row(3, ({"keys": torch.zeros(2, 3, 4), "values": torch.zeros(2, 3, 4), ("conv", 0): torch.zeros(7)},))
    assert row.sizes == (2 * 2 * 3 * 4 * 4, 7 * 4)


def test_layers_of_an_unknown_kind_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NotImplementedError, match="without layers"):
        new_cache(LlamaConfig(num_hidden_layers=0))
    monkeypatch.setattr(kv, "OURS", {})
    with pytest.raises(NotImplementedError, match="a cache with DynamicLayer"):
        new_cache(LlamaConfig(num_hidden_layers=1))
