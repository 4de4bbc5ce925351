"""Caches of finished replies, found again by the prompts that go on from them."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.model.forward import can_share  # noqa: E402  # torch first, or the whole module is skipped
from tiararodney.sekft.model.kv import PrefixCache, Row  # noqa: E402

pytestmark = pytest.mark.torch

SIZE = 2 * 4  # bytes of a token's key and value here


def row(length: int, held: int | None = None) -> Row:
    tensor = torch.zeros(1, length if held is None else held, 1)
    return Row(length, ({"keys": tensor, "values": tensor},))


def found(cache: PrefixCache, ids: list[int], source: str = "base") -> int | None:
    row = cache.find(source, ids)
    return None if row is None else row.length


def test_the_longest_prefix_is_found():
    cache = PrefixCache()
    cache.add("base", [1, 2, 3, 4], row(4))
    cache.add("base", [1, 2, 9], row(3))
    assert found(cache, [1, 2, 3, 4, 5, 6]) == 4
    assert found(cache, [1, 2, 9, 4]) == 3
    assert found(cache, [1, 2, 7, 7]) == 2
    assert found(cache, [7, 1, 2, 3]) is None


def test_one_token_is_left_to_compute():
    cache = PrefixCache()
    cache.add("base", [1, 2, 3], row(3))
    assert found(cache, [1, 2, 3]) == 2
    assert found(cache, [1]) is None


def test_sources_do_not_mix():
    cache = PrefixCache()
    cache.add("tuned", [1, 2, 3], row(3))
    assert found(cache, [1, 2, 3, 4]) is None
    assert found(cache, [1, 2, 3, 4], "tuned") == 3


def test_a_window_that_dropped_tokens_serves_exact_continuations_only():
    cache = PrefixCache()
    cache.add("base", [1, 2, 3, 4], row(4, held=2))
    assert found(cache, [1, 2, 3, 9]) is None
    assert found(cache, [1, 2, 3, 4, 9]) == 4


def test_a_longer_sequence_replaces_its_prefixes():
    cache = PrefixCache()
    cache.add("base", [1, 2], row(2))
    cache.add("base", [1, 3], row(2))
    cache.add("base", [1, 2, 3], row(3))
    cache.shrink(5 * SIZE)  # all that is left: one of three tokens, one of two
    assert found(cache, [1, 3, 5]) == 2
    assert found(cache, [1, 2, 3, 5]) == 3


def test_the_least_recently_used_goes_first():
    cache = PrefixCache()
    for first in (1, 2, 3):
        cache.add("base", [first, 0], row(2))
    assert found(cache, [1, 0, 0]) == 2
    cache.shrink(4 * SIZE)
    assert [found(cache, [first, 0, 0]) for first in (1, 2, 3)] == [2, None, 2]
    cache.clear()
    assert found(cache, [1, 0, 0]) is None


@pytest.mark.parametrize(
    ("prompts", "stateful", "expected"),
    [
        ([(9, None)], True, True),
        ([(100, None), (60, None)], False, True),  # little padding
        ([(480, None), (20, None)], False, False),  # more padding than tokens
        ([(100, None), (60, None)], True, False),  # padding would go into the states
        ([(100, None), (100, None)], True, True),
        ([(100, row(40)), (60, None)], True, False),  # no state to start the second from
        ([(600, None), (600, None)], False, False),  # more than a chunk
        ([(100, row(40)), (60, row(10))], False, True),  # the second computes some again
        ([(100, row(40)), (60, row(10, held=5))], False, False),  # it no longer holds what that needs
        ([(100, row(40)), (70, row(10, held=5))], False, True),  # as much is new: nothing is computed again
    ],
)
def test_prompts_share_a_block_where_all_stay_exact(
    prompts: list[tuple[int, Row | None]], stateful: bool, expected: bool
):
    texts, prefixes = [range(length) for length, _ in prompts], [prefix for _, prefix in prompts]
    assert can_share(texts, prefixes, 1000, stateful=stateful) == expected
