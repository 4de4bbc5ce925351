"""The contract in an adapter's folder: written after training, checked before serving.

``render.json`` holds the fingerprint; beside it lie the tokenizer and the canonical template that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar, cast, runtime_checkable

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render.contract.canonical import prints_the_date
from tiararodney.sekft.render.contract.fingerprint import (
    COMPARED,
    CONTRACT_FILE,
    POLICIES,
    Fingerprint,
    Policy,
    contract_template,
    take_fingerprint,
)
from tiararodney.sekft.render.contract.thinking import thinking_off
from tiararodney.sekft.render.tokens import Tokenizer


@runtime_checkable
class Savable(Tokenizer, Protocol):
    """A tokenizer that can be written to a folder."""

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files."""
        ...


S = TypeVar("S", bound=Savable)


def apply_policy(tokenizer: S, policy: Policy = "keep") -> S:
    """Return the tokenizer to train with under a policy.

    Sessions are normalised before they are rendered, so the model's own template will do, and renders faster. The
    canonical one is needed where it does more: break control tokens up, turn thinking off, or fix the date of a
    template that prints it (to now, so that what is rendered next month is what was trained).
    """
    if policy == "keep" and not prints_the_date(tokenizer.chat_template) and not thinking_off(tokenizer):
        return tokenizer
    return tokenizer.with_template(contract_template(tokenizer, policy, _now()))


def save_contract(tokenizer: Savable, out_dir: str | Path, policy: Policy = "keep") -> Fingerprint:
    """Write the tokenizer, its canonical template and ``render.json`` into an adapter's folder.

    Args:
        tokenizer: what was trained with.
        out_dir: the adapter's folder.
        policy: the one for control-token text that was trained with.
    """
    now = _now()
    taken = take_fingerprint(tokenizer, policy, now)
    tokenizer.with_template(contract_template(tokenizer, policy, now)).save(out_dir)
    text = json.dumps(taken.to_json(), indent=2, sort_keys=True) + "\n"
    (Path(out_dir) / CONTRACT_FILE).write_text(text, encoding="utf-8")
    return taken


def read_contract(adapter_dir: str | Path) -> Fingerprint:
    """Read an adapter's ``render.json``.

    Raises:
        ContractMismatch: it is missing, or no such record.
    """
    path = Path(adapter_dir) / CONTRACT_FILE
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractMismatch(
            f"{adapter_dir}: found no {CONTRACT_FILE}, expected the render contract that sekft-train writes. "
            "Train the adapter with sekft-train, or check the path."
        ) from None
    except (OSError, ValueError) as error:
        raise ContractMismatch(f"{path}: found a file that cannot be read ({error}), expected JSON.") from None
    return Fingerprint.from_json(data, str(path))


def check_contract(adapter_dir: str | Path, tokenizer: object) -> Fingerprint:
    """Refuse a tokenizer or template other than the adapter was trained with.

    Args:
        adapter_dir: a folder that `save_contract` has written to.
        tokenizer: what prompts are about to be rendered with: the base's own, or the adapter's.

    Returns:
        The adapter's fingerprint.

    Raises:
        ContractMismatch: naming what differs.
    """
    trained = read_contract(adapter_dir)
    here = take_fingerprint(tokenizer, _policy(trained), _clock(trained, adapter_dir), trained.settings)
    differences = [
        f"{name}: trained with {_short(getattr(trained, key))}, here {_short(getattr(here, key))}"
        for key, name in COMPARED.items()
        if getattr(trained, key) != getattr(here, key)
    ]
    if differences:
        libraries = ", ".join(f"{k} {v}" for k, v in trained.libraries.items())
        raise ContractMismatch(
            f"{adapter_dir}: the render contract differs ({'; '.join(differences)}; it was written with {libraries}). "
            "Use the base model that the adapter was trained on."
        )
    return trained


def contract_tokenizer(tokenizer: S, adapter_dir: str | Path) -> S:
    """Return a base's tokenizer with the template that an adapter was trained with, for serving the adapter.

    Raises:
        ContractMismatch: the adapter carries no contract that can be read.
    """
    trained = read_contract(adapter_dir)
    policy, clock = _policy(trained), _clock(trained, adapter_dir)
    if policy == "keep" and clock is None and not trained.settings:
        return tokenizer
    return tokenizer.with_template(contract_template(tokenizer, policy, clock, trained.settings))


def _policy(trained: Fingerprint) -> Policy:
    return cast("Policy", trained.control_tokens if trained.control_tokens in POLICIES else "keep")


def _clock(trained: Fingerprint, adapter_dir: str | Path) -> datetime | None:
    try:
        return datetime.fromisoformat(trained.clock) if trained.clock else None
    except ValueError:
        found = f"field 'clock': found {trained.clock!r}, expected a date and time"
        raise ContractMismatch(f"{adapter_dir}/{CONTRACT_FILE}: {found}.") from None


def _short(value: str) -> str:
    return value[:12] if len(value) == hashlib.sha256().digest_size * 2 else repr(value)


def _now() -> datetime:
    # Templates print the local date (transformers' strftime_now).
    return datetime.now().replace(microsecond=0)  # noqa: DTZ005 - see above
