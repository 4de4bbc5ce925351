"""A server over a tiny base with two adapters, as an application and on a real port."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two adapters, ``one`` and ``two``, that differ from the base and from each other."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from tiararodney.sekft.render import save_contract
    from tiararodney.sekft.tokenizer import load_tokenizer

    root = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two"), 1):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), config).save_pretrained(root / name)
        save_contract(load_tokenizer(tiny_base), root / name)
    return root


@pytest.fixture
def make_server(tiny_base: Path, adapters: Path) -> Callable[..., Any]:
    """Return a maker of servers over a fresh load of the tiny base; adapters may be loaded from their folder."""
    from tiararodney.sekft.model import Generator, load_base
    from tiararodney.sekft.resident.serving.app import Server
    from tiararodney.sekft.resident.state import Probe, Resident

    def make(api_key: str = "") -> Any:
        base = load_base(tiny_base, device="cpu", dtype="float32")
        resident = Resident(replace(base, path=Path("tiny")), Probe("", b""), Generator(base))
        return Server(resident, [adapters], api_key)

    return make


@pytest.fixture
def server(make_server: Callable[..., Any]) -> Any:
    """Return a server without a key."""
    return make_server()


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    """Return a client of its application."""
    from starlette.testclient import TestClient

    with TestClient(server.app()) as client:
        yield client


@pytest.fixture
def url(server: Any) -> Iterator[str]:
    """Return the URL of the server on a port of the loopback."""
    from tiararodney.sekft.resident.serving.run import serving

    with serving(server.app(), "127.0.0.1", 0) as url:
        yield url
