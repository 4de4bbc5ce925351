"""The contract that travels with an adapter: what was rendered how, and whether it is the same here.

``render.json`` names the hashes; the folder holds the tokenizer and the canonical template that they belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, cast, runtime_checkable

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render.contract.canonical import (
    canonical_chat_template,
    prints_the_date,
    template_clock,
    template_policy,
    template_settings,
)
from tiararodney.sekft.render.contract.thinking import thinking_off
from tiararodney.sekft.render.normalize import NORMALIZER_VERSION
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

CONTRACT_FILE = "render.json"
SCHEMA_VERSION = "1"
POLICIES = ("keep", "escape")
Policy = Literal["keep", "escape"]
_LIBRARIES = ("transformers", "tokenizers", "jinja2")
# What must be equal, and what a user calls it. Library versions are told, not compared: they rarely matter, and a
# difference that matters shows in a hash.
_COMPARED = {
    "schema_version": "schema of render.json",
    "template_sha256": "chat template",
    "tokenizer_sha256": "tokenizer",
    "normalizer_version": "version of the normalisation",
    "control_tokens": "control-token policy",
}


@runtime_checkable
class Savable(Tokenizer, Protocol):
    """A tokenizer that can be written to a folder."""

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files."""
        ...


S = TypeVar("S", bound=Savable)


@dataclass(frozen=True)
class Fingerprint:
    """What decides which ids a session becomes.

    Args:
        template_sha256: of the canonical template's text.
        tokenizer_sha256: of the tokenizer's definition (vocabulary, merges, normaliser, added tokens, decoder).
        normalizer_version: version of `normalize_for_template`.
        control_tokens: policy for control-token text in messages, ``keep`` or ``escape``.
        libraries: versions at hand when it was taken.
        clock: the moment that a template which prints the date prints for good, empty where it prints none.
        settings: variables of the model's template that are set for good, such as ``enable_thinking``.
        schema_version: of this record.
    """

    template_sha256: str
    tokenizer_sha256: str
    normalizer_version: str
    control_tokens: str
    libraries: Mapping[str, str] = field(default_factory=dict)
    clock: str = ""
    settings: Mapping[str, bool] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object, source: str = CONTRACT_FILE) -> Self:
        """Read the record.

        Raises:
            ContractMismatch: a field is missing or no string.
        """
        if not isinstance(data, Mapping):
            raise ContractMismatch(f"{source}: found {type(data).__name__}, expected an object.")
        for name in _COMPARED:
            if not isinstance(data.get(name), str):
                raise ContractMismatch(f"{source}: field {name!r}: found {data.get(name)!r}, expected a string.")
        libraries, settings = (
            value if isinstance(value, Mapping) else {} for value in (data.get("libraries"), data.get("settings"))
        )
        return cls(
            **{name: data[name] for name in _COMPARED},
            libraries=dict(libraries),
            settings={n: v is True for n, v in settings.items() if isinstance(n, str) and n.isidentifier()},
            clock=str(data.get("clock") or ""),
        )


def take_fingerprint(
    tokenizer: object,
    policy: Policy = "keep",
    clock: datetime | None = None,
    settings: Mapping[str, bool] | None = None,
) -> Fingerprint:
    """Take the fingerprint of a tokenizer and its chat template.

    Args:
        tokenizer: a `Tokenizer` or a transformers tokenizer.
        policy: for control-token text.
        clock: where the clock is stopped, None where it runs.
        settings: of the template; those that turn thinking off where not given.
    """
    tok = as_tokenizer(tokenizer)
    template = contract_template(tok, policy, clock, settings)
    stopped = template_clock(template)
    return Fingerprint(
        template_sha256=_sha256(template),
        tokenizer_sha256=_sha256(tok.definition),
        normalizer_version=NORMALIZER_VERSION,
        control_tokens=template_policy(template) or policy,
        libraries=_versions(),
        clock=stopped.isoformat(timespec="seconds") if stopped else "",
        settings=template_settings(template),
    )


def contract_template(
    tok: Tokenizer,
    policy: Policy = "keep",
    clock: datetime | None = None,
    settings: Mapping[str, bool] | None = None,
) -> str:
    """Return the canonical template of a tokenizer; the arguments are those of `take_fingerprint`."""
    return canonical_chat_template(
        tok.chat_template,
        tok.control_tokens if policy == "escape" else (),
        clock,
        thinking_off(tok) if settings is None else settings,
    )


def apply_policy(tokenizer: S, policy: Policy = "keep") -> S:
    """Return the tokenizer to train with under a policy.

    Sessions are normalised before they are rendered, so the model's own template does, and renders faster. The
    canonical one is needed where it does more: break control tokens up, turn thinking off, or stop the clock of a
    template that prints the date (now, so that what is rendered next month is what was trained).
    """
    if policy == "keep" and not prints_the_date(tokenizer.chat_template) and not thinking_off(tokenizer):
        return tokenizer
    return tokenizer.with_template(contract_template(tokenizer, policy, _now()))


def save_contract(tokenizer: Savable, out_dir: str | Path, policy: Policy = "keep") -> Fingerprint:
    """Write the tokenizer, its canonical template and ``render.json`` into an adapter's folder.

    Args:
        tokenizer: what was trained with.
        out_dir: the adapter's folder.
        policy: what was done with control tokens in text.
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


def contract_differences(adapter_dir: str | Path, tokenizer: object) -> list[str]:
    """Return what differs between an adapter's contract and a tokenizer at hand; empty where they are the same."""
    trained = read_contract(adapter_dir)
    here = take_fingerprint(tokenizer, _policy(trained), _clock(trained, adapter_dir), trained.settings)
    return [
        f"{name}: trained with {_short(getattr(trained, key))}, here {_short(getattr(here, key))}"
        for key, name in _COMPARED.items()
        if getattr(trained, key) != getattr(here, key)
    ]


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
    differences = contract_differences(adapter_dir, tokenizer)
    if differences:
        trained = read_contract(adapter_dir)
        told = ", ".join(f"{k} {v}" for k, v in trained.libraries.items())
        raise ContractMismatch(
            f"{adapter_dir}: the render contract differs ({'; '.join(differences)}; it was written with {told}). "
            "Use the base model that the adapter was trained on."
        )
    return read_contract(adapter_dir)


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
    # Templates print the local date (transformers' strftime_now): the one that is stopped is of the same kind.
    return datetime.now().replace(microsecond=0)  # noqa: DTZ005 - see above


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    out = {}
    for name in _LIBRARIES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            continue
    return out
