"""The contract in an adapter's folder: written after training, checked before serving.

``render.json`` holds the fingerprint: hashes and settings that decide which ids a session becomes. Beside it lie the
tokenizer and the canonical template that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import ContractMismatch
from tiararodney.sekft.render.contract.canonical import canonical_chat_template, marks_of, prints_the_date, thinking_off
from tiararodney.sekft.render.normalize import NORMALIZER_VERSION
from tiararodney.sekft.render.tokens import Tokenizer, as_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTRACT_FILE = "render.json"
POLICIES = ("keep", "escape")
"""For control-token text in messages: left as endpoints leave it, or broken up, in serving too."""
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
        control_tokens: policy for control-token text in messages, one of `POLICIES`.
        clock: the moment (ISO 8601) whose date a template that prints one always prints, empty where it prints none.
        settings: variables of the model's template that are fixed, such as ``enable_thinking``.
        libraries: versions at hand when it was taken.
        normalizer_version: version of `normalize_for_template`.
        schema_version: of this record.
    """

    template_sha256: str
    tokenizer_sha256: str
    control_tokens: str
    clock: str = ""
    settings: Mapping[str, bool] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    normalizer_version: str = NORMALIZER_VERSION
    schema_version: str = "1"

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def take_fingerprint(tokenizer: object, policy: str = "keep") -> Fingerprint:
    """Take the fingerprint of a tokenizer (ours or transformers') under a policy; a canonical template has its own."""
    return _fingerprint(_canonical(as_tokenizer(tokenizer), policy))


def apply_policy(tokenizer: Tokenizer, policy: str = "keep") -> Tokenizer:
    """Return the tokenizer to train with under a policy.

    Sessions are normalised before they are rendered, so the model's own template will do, and renders faster. The
    canonical one is needed where it does more: break control tokens up, turn thinking off, or fix the date of a
    template that prints it (to now, so that what is rendered next month is what was trained).
    """
    if policy == "keep" and not prints_the_date(tokenizer.chat_template) and not thinking_off(tokenizer):
        return tokenizer
    return _canonical(tokenizer, policy, _now())


def save_contract(tokenizer: Tokenizer, out_dir: str | Path, policy: str = "keep") -> Fingerprint:
    """Write the tokenizer that was trained with, its canonical template and ``render.json`` into an adapter's folder.

    `policy` is the one for control-token text that was trained with.
    """
    served = _canonical(tokenizer, policy, _now())
    taken = _fingerprint(served)
    served.save(out_dir)
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
        data = {"clock": "", "settings": {}, "libraries": {}} | json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractMismatch(
            f"{adapter_dir}: found no {CONTRACT_FILE}, expected the render contract that sekft-train writes. "
            "Train the adapter with sekft-train, or check the path."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ContractMismatch(f"{path}: found a file that cannot be read ({error}), expected an object.") from None
    for name in (f.name for f in fields(Fingerprint)):
        kind, words = (dict, "an object") if name in ("settings", "libraries") else (str, "a string")
        if not isinstance(data.get(name), kind):
            raise ContractMismatch(f"{path}: field {name!r}: found {data.get(name)!r}, expected {words}.")
    clock, policy = data["clock"], data["control_tokens"]
    if policy not in POLICIES:
        raise ContractMismatch(f"{path}: field 'control_tokens': found {policy!r}, expected keep or escape.")
    for name, value in data["settings"].items():  # names are written into the template
        if not (name.isidentifier() and isinstance(value, bool)):
            found = f"found {name!r}: {value!r}, expected a name: true or false"
            raise ContractMismatch(f"{path}: field 'settings': {found}.")
    try:
        datetime.fromisoformat(clock or "2000-01-01")
    except ValueError:
        raise ContractMismatch(f"{path}: field 'clock': found {clock!r}, expected a time in ISO 8601.") from None
    return Fingerprint(**{f.name: data[f.name] for f in fields(Fingerprint)})


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
    here = _fingerprint(_canonical_as(trained, as_tokenizer(tokenizer)))
    both = {name: (getattr(trained, key), getattr(here, key)) for key, name in COMPARED.items()}
    # of a hash the beginning will do
    differences = [f"{name}: trained with {a[:12]}, here {b[:12]}" for name, (a, b) in both.items() if a != b]
    if differences:
        libraries = ", ".join(f"{k} {v}" for k, v in trained.libraries.items())
        raise ContractMismatch(
            f"{adapter_dir}: the render contract differs ({'; '.join(differences)}; it was written with {libraries}). "
            "Use the base model that the adapter was trained on."
        )
    return trained


def contract_tokenizer(tokenizer: Tokenizer, adapter_dir: str | Path) -> Tokenizer:
    """Return a base's tokenizer with the template that an adapter was trained with, for serving the adapter.

    Raises:
        ContractMismatch: the adapter carries no contract that can be read.
    """
    return _canonical_as(read_contract(adapter_dir), tokenizer)


def _canonical(tok: Tokenizer, policy: str, clock: str = "", settings: Mapping[str, bool] | None = None) -> Tokenizer:
    """Return a tokenizer with its canonical template; thinking is turned off where no settings are given."""
    escape = tok.control_tokens if policy == "escape" else ()
    fixed = thinking_off(tok) if settings is None else settings
    return tok.with_template(canonical_chat_template(tok.chat_template, escape, clock, fixed))


def _canonical_as(trained: Fingerprint, tok: Tokenizer) -> Tokenizer:
    return _canonical(tok, trained.control_tokens, trained.clock, trained.settings)


def _fingerprint(tok: Tokenizer) -> Fingerprint:
    """Return the fingerprint of a tokenizer with a canonical template."""
    marks = marks_of(tok.chat_template)
    assert marks is not None
    return Fingerprint(
        hashlib.sha256(tok.chat_template.encode()).hexdigest(),
        hashlib.sha256(tok.definition.encode()).hexdigest(),
        **marks._asdict(),
        libraries={name: version(name) for name in ("transformers", "tokenizers", "jinja2")},
    )


def _now() -> str:
    # Templates print the local date (transformers' strftime_now).
    return datetime.now().isoformat(timespec="seconds")  # noqa: DTZ005 - see above
