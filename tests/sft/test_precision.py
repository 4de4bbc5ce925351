"""LoRA is multiplied in the compute type, in training as in serving."""

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import save_adapter  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.model import attach_adapter, load_base, use_adapter  # noqa: E402
from tiararodney.sekft.render import Example  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.lora import NAME, fresh_adapter  # noqa: E402
from tiararodney.sekft.sft.step.forward import Route, row_loss  # noqa: E402
from tiararodney.sekft.sft.step.pack import pack_row  # noqa: E402

pytestmark = pytest.mark.torch


def test_training_computes_lora_as_serving_does(configure: Callable[..., TrainConfig], tiny_base: Path, tmp_path: Path):
    """Both routes of a training against the served adapter, in bf16: as near as bf16 rounds."""
    adapter = save_adapter(tmp_path / "start", tiny_base)
    base = load_base(tiny_base, device="cpu", dtype="bfloat16")
    ids = list(range(5, 90))
    with fresh_adapter(base, configure(init_adapter=adapter)) as weights, torch.no_grad():
        assert {weight.dtype for weight in weights.values()} == {torch.float32}, "what is trained is kept in fp32"
        row = pack_row([Example(ids, [-100, *ids[1:]])])
        trained = {route: row_loss(base.model, row, NAME, route=route).nll for route in (Route.FUSED, Route.PACKED)}
    attach_adapter(base, adapter, "tuned")
    assert {w.dtype for n, w in base.model.named_parameters() if ".tuned." in n} == {torch.bfloat16}
    with torch.no_grad():
        plain = base.model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
        with use_adapter(base, "tuned"):
            served = base.model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
    nll, without = (
        torch.nn.functional.cross_entropy(x, torch.tensor(ids[1:]), reduction="none") for x in (served, plain)
    )
    assert float((without - nll).norm() / nll.norm()) > 0.1, "the adapter matters"
    for route, found in trained.items():
        assert float((found - nll).norm() / nll.norm()) < 0.02, route
