"""The fingerprint: hashes and settings that decide which ids a session becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Self

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render.contract.canonical import (
    canonical_chat_template,
    template_clock,
    template_policy,
    template_settings,
)
from tiararodney.sekft.render.contract.thinking import thinking_off
from tiararodney.sekft.render.normalize import NORMALIZER_VERSION
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from datetime import datetime

CONTRACT_FILE = "render.json"
SCHEMA_VERSION = "1"
POLICIES: tuple[str, ...] = ("keep", "escape")
Policy = Literal["keep", "escape"]
_LIBRARIES = ("transformers", "tokenizers", "jinja2")
COMPARED = {
    "schema_version": "schema of render.json",
    "template_sha256": "chat template",
    "tokenizer_sha256": "tokenizer",
    "normalizer_version": "version of the normalisation",
    "control_tokens": "control-token policy",
}
"""Fields that must be equal, and what a user calls them. Library versions are recorded only: where one matters, a hash
differs."""


@dataclass(frozen=True)
class Fingerprint:
    """What decides which ids a session becomes.

    Args:
        template_sha256: of the canonical template's text.
        tokenizer_sha256: of the tokenizer's definition (vocabulary, merges, normaliser, added tokens, decoder).
        normalizer_version: version of `normalize_for_template`.
        control_tokens: policy for control-token text in messages, ``keep`` or ``escape``.
        libraries: versions at hand when it was taken.
        clock: the moment whose date a template that prints one always prints, empty where it prints none.
        settings: variables of the model's template that are fixed, such as ``enable_thinking``.
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
        for name in COMPARED:
            if not isinstance(data.get(name), str):
                raise ContractMismatch(f"{source}: field {name!r}: found {data.get(name)!r}, expected a string.")
        libraries, settings = (
            value if isinstance(value, Mapping) else {} for value in (data.get("libraries"), data.get("settings"))
        )
        return cls(
            **{name: data[name] for name in COMPARED},
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
        clock: the moment to fix the template's date to, None for the current one.
        settings: of the template; those that turn thinking off where not given.
    """
    tok = as_tokenizer(tokenizer)
    template = contract_template(tok, policy, clock, settings)
    fixed = template_clock(template)
    return Fingerprint(
        template_sha256=_sha256(template),
        tokenizer_sha256=_sha256(tok.definition),
        normalizer_version=NORMALIZER_VERSION,
        control_tokens=template_policy(template) or policy,
        libraries=_versions(),
        clock=fixed.isoformat(timespec="seconds") if fixed else "",
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
