"""A kernel for all documents at once is taken only where it computes what the documents' own attention does."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from tiararodney.sekft.sft.step import varlen  # noqa: E402 - torch first, or the whole module is skipped

pytestmark = pytest.mark.torch

PROBE = (torch.device("cpu"), torch.float32, 6, 2, 8)


def dense(*, lower_right: bool = True, leak: bool = False) -> varlen.Attention:
    """Attention over the documents as a kernel computes it: one call, keys behind a copy of the prefix."""

    def attend(query: Any, key: Any, value: Any, lengths: Sequence[int], prefix: int, scale: float) -> Any:
        layout = varlen._layout(tuple(lengths), prefix, query.device)
        q, k, v = layout.given(query, key, value)
        group = q.shape[1] // k.shape[1]
        k, v = (tensor.repeat_interleave(group, dim=1) for tensor in (k, v))
        mask = torch.full((len(q), len(k)), -torch.inf)
        pairs = list(zip(layout.starts.tolist(), layout.key_starts.tolist(), strict=True))
        for (begin, key_begin), (end, key_end) in pairwise(pairs):
            size, key_size = end - begin, key_end - key_begin
            allowed = torch.ones(size, key_size).tril(key_size - size if lower_right else 0).bool()
            mask[begin:end, key_begin:key_end].masked_fill_(allowed, 0)
            if leak and begin:
                mask[begin, 0] = 0
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale + mask
        return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)

    return attend


def test_a_right_kernel_agrees() -> None:
    assert varlen.disagreement(dense(), *PROBE) is None
    assert varlen.disagreement(varlen.one_by_one, *PROBE) is None


def test_the_first_kernel_that_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    right = dense()
    monkeypatch.setattr(varlen, "_kernels", lambda _: [("one that leaks", dense(leak=True)), ("a right one", right)])
    meta = torch.device("meta")  # stands for an accelerator; what is computed there is replaced
    real = varlen.disagreement
    monkeypatch.setattr(varlen, "disagreement", lambda kernel, _, *rest: real(kernel, torch.device("cpu"), *rest))
    assert varlen.fastest(meta, torch.float32, 6, 2, 8) is right
    varlen.fastest.cache_clear()
    monkeypatch.setattr(varlen, "_kernels", lambda _: [("one that leaks", dense(leak=True))])
    assert varlen.fastest(meta, torch.float32, 6, 2, 8) is None
    varlen.fastest.cache_clear()


def test_half_precision_has_more_kernels_to_try() -> None:
    assert [kernel for _, kernel in varlen._kernels(torch.float32)] == [varlen.one_by_one]
    assert varlen.torch_varlen in [kernel for _, kernel in varlen._kernels(torch.bfloat16)]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (dense(lower_right=False), "off by"),
        (dense(leak=True), "off by"),
        (lambda q, *_: q, "of shape"),
        (lambda q, k, v, *_: dense()(q, k, v, *_) * torch.nan, "off by nan"),
    ],
    ids=["mask aligned with the keys' start", "a document that sees another", "wrong layout", "not a number"],
)
def test_a_wrong_kernel_is_refused(kernel: Any, expected: str) -> None:
    assert expected in (varlen.disagreement(kernel, *PROBE) or "")


def test_a_kernel_that_this_device_has_not_is_refused_by_its_own_error() -> None:
    assert varlen.disagreement(varlen.torch_varlen, *PROBE) is not None


def test_the_cpu_goes_its_own_way() -> None:
    assert varlen.fastest(torch.device("cpu"), torch.bfloat16, 6, 2, 8) is None


def test_a_row_without_prefix_copies_no_keys() -> None:
    assert varlen._layout((3, 4), 0, torch.device("cpu")).index is None
    layout = varlen._layout((3, 4), 2, torch.device("cpu"))
    assert layout.index.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 5, 6, 7, 8]
    assert layout.starts.tolist() == [0, 2, 5, 9]
    assert layout.key_starts.tolist() == [0, 2, 7, 13]
    assert (layout.longest, layout.longest_key) == (4, 6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_kernel_in_use_agrees_with_plain_operations() -> None:
    probe = (torch.device("cuda"), torch.bfloat16, 8, 2, 64)
    kernel = varlen.fastest(*probe)
    assert kernel is not None
    assert varlen.disagreement(kernel, *probe) is None
