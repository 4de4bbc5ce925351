"""The head's loss against cross entropy over full logits."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")

from tiararodney.sekft.sft.step import loss as loss_module  # noqa: E402 - torch first, or the whole module is skipped
from tiararodney.sekft.sft.step.loss import head_loss, logits_loss  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any, Any]:
    """Hidden states, a head, targets and counts; several chunks of them."""
    monkeypatch.setitem(loss_module.CHUNK, "cpu", 4)
    torch.manual_seed(0)
    hidden, weight = torch.randn(11, 8), torch.randn(30, 8)
    return hidden, weight, torch.randint(30, (11,)), torch.rand(11) + 0.5


def test_the_loss_and_its_gradient_are_those_of_weighted_cross_entropy(case: Any):
    hidden, weight, targets, weights = case
    hidden = hidden.requires_grad_()
    each = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="none")
    expected = (each * weights).sum()
    (expected_grad,) = torch.autograd.grad(expected, hidden)
    for found in (
        head_loss(hidden, weight, targets, weights),
        logits_loss(hidden @ weight.t(), targets, weights),
    ):
        torch.testing.assert_close(found.total, expected)
        torch.testing.assert_close(torch.autograd.grad(found.total, hidden)[0], expected_grad)
        assert torch.equal(found.correct, (hidden @ weight.t()).argmax(-1) == targets)
        torch.testing.assert_close(found.nll, each.detach())
        assert found.probe_mass is None


def test_the_mass_is_the_joint_probability_of_the_tokens_asked_for(case: Any):
    hidden, weight, targets, weights = case
    asked = torch.tensor([3, 7])
    expected = (hidden @ weight.t()).softmax(-1)[:, [3, 7]].sum(-1)
    torch.testing.assert_close(head_loss(hidden, weight, targets, weights, asked).probe_mass, expected)
    torch.testing.assert_close(logits_loss(hidden @ weight.t(), targets, weights, asked).probe_mass, expected)
