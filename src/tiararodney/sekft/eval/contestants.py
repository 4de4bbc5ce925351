"""Who takes part in a run, checked before anything is loaded or played."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.sekft import hub
from tiararodney.sekft.endpoint import Endpoint
from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval.episodes import read_json
from tiararodney.sekft.provenance import sha256_of
from tiararodney.sekft.render import check_contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.model import Base

BASE, ADAPTER, ENDPOINT, OPERATOR = "base", "adapter", "endpoint", "operator"
LOCAL = (BASE, ADAPTER)
BASELINES: Mapping[str, Sequence[str]] = {
    "exit at once": (),
    "panic at once": ("panic the directive cannot be carried out",),
    "prose, then exit": ("Sure! I will take a look at the directives and do what they ask.",),
}
"""What doing nothing scores, which a rate has to be read against: what is said before ``exit``."""


@dataclass(frozen=True)
class Contestant:
    """Who is evaluated."""

    name: str  # in the report, unique in a run
    kind: str  # `BASE`, `ADAPTER`, `ENDPOINT`, or `OPERATOR` for a script
    path: str  # folder of the model or adapter, or the endpoint's URLs
    fingerprint: str = ""  # what tells this model from another under the same path; empty for an endpoint
    contract: str = "none"  # "match", "none" (nothing to check) or the mismatch that the user chose to ignore


def contestants(config: EvalConfig, base: Base | None) -> tuple[list[Contestant], dict[str, str] | None]:
    """Return who takes part, in the order of the report, and the compute type of local models with its reason.

    These are models of a base that is loaded already, or, where that is None, of ``config.base``.

    Raises:
        UsageError: the base or an adapter is none, or a server does not answer or does not know the model.
        ContractMismatch: an adapter's render contract differs, and the run does not ignore that.
    """
    if config.operator is not None:
        return [Contestant(config.operator, OPERATOR, "")], None
    if config.endpoint:
        for server in (server for model in config.models for server in endpoints(config, model)):
            server.check()
        return [Contestant(name, ENDPOINT, ", ".join(config.endpoint)) for name in config.models], None
    if base is not None:
        path, fingerprint, tokenizer = base.path, base.fingerprint, base.tokenizer
        precision = {"dtype": str(base.dtype).removeprefix("torch."), "reason": base.dtype_reason}
    else:
        from tiararodney.sekft.model import base_fingerprint
        from tiararodney.sekft.model.base import find_device, find_folder
        from tiararodney.sekft.model.precision import choose_dtype
        from tiararodney.sekft.tokenizer import load_tokenizer

        assert config.base is not None
        path = find_folder(config.base)
        fingerprint, tokenizer = base_fingerprint(path), load_tokenizer(path)
        chosen = choose_dtype(config.dtype, find_device(config.device))
        precision = {"dtype": chosen.name, "reason": chosen.reason}
    out = [] if config.no_base else [Contestant("base", BASE, str(path), fingerprint)]
    for name, given in named_adapters(config.adapters):
        folder = hub.find(given, hub.ADAPTER, "--adapter")
        fingerprint, contract = adapter_fingerprint(folder), "match"
        try:
            check_contract(folder, tokenizer)
        except ContractMismatch as error:
            if not config.ignore_contract:
                raise ContractMismatch(f"{error} With --ignore-contract it is evaluated all the same.") from None
            contract = str(error)
        out.append(Contestant(name, ADAPTER, str(folder), fingerprint, contract))
    return out, precision


def endpoints(config: EvalConfig, model: str) -> list[Endpoint]:
    """Return the servers of a run, each asked for one model."""
    key, seconds = config.api_key_env, config.request_seconds
    return [Endpoint(url, model, key_variable=key, timeout=seconds) for url in config.endpoint]


def check_unseen(config: EvalConfig, field: Sequence[Contestant], scenarios: Sequence[str]) -> list[str]:
    """Hold the evaluated scenarios' ids against what each adapter was trained on, as its ``training.json`` lists it.

    Returns:
        Notes for the report: an overlap that the user chose to allow, a base in another precision than in training.

    Raises:
        UsageError: a scenario was trained on, and the run does not allow that.
    """
    notes = []
    for folder in (Path(c.path) for c in field if c.kind == ADAPTER):
        file = folder / "training.json"
        record = read_json(file, "the record of a training") if file.exists() else {}  # others' adapters have none
        data, base = (part if isinstance(part := record.get(name), dict) else {} for name in ("data", "base"))
        seen = sorted(set(scenarios) & set(data.get("scenario_ids") or ()))
        if seen:
            found = f"{folder}: trained on {len(seen)} of the {len(scenarios)} scenarios, such as {seen[0]}"
            if not config.allow_seen:
                raise UsageError(
                    f"--adapter {found}. Evaluate on scenarios it has not seen (posix-sdc generate --split holdout), "
                    "or give --allow-seen."
                )
            notes.append(f"{found}: rates over these say nothing about new worlds.")
        trained = base.get("four_bit")
        if isinstance(trained, bool) and trained != config.load_4bit:
            had, has = ("4-bit (NF4)", "unquantised") if trained else ("unquantised", "4-bit (NF4)")
            notes.append(f"{folder}: trained over a {had} base, evaluated over an {has} one: replies may differ.")
    return notes


def named_adapters(given: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the name and folder of each adapter: named as given (NAME=DIR), else by its folder or its whole path.

    Raises:
        UsageError: a folder or a name was given twice.
    """
    split = []
    for one in given:
        name, equals, folder = str(one).partition("=")
        is_named = equals and name and "/" not in name and not one.exists()
        split.append((name, Path(folder)) if is_named else ("", one))
    names = [name or folder.absolute().name for name, folder in split]
    if "base" in names or len(set(names)) < len(names):
        # The path of a folder in the current one is its name, which is taken: that one gets its absolute path.
        names = [name or str(folder if len(folder.parts) > 1 else folder.absolute()) for name, folder in split]
    for items in ([str(folder.expanduser().absolute()) for _, folder in split], ["base", *names]):
        if twice := [item for item in items if items.count(item) > 1]:
            raise UsageError(f"--adapter {twice[0]}: given twice (base is the base model's name). Tell them apart.")
    return [(name, folder) for name, (_, folder) in zip(names, split, strict=True)]


def adapter_fingerprint(folder: Path) -> str:
    """Return the hash of an adapter's weights and configuration.

    Raises:
        UsageError: the folder is no adapter.
    """
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        try:
            digest.update(bytes.fromhex(sha256_of(folder / name)))
        except OSError as error:
            found = f"no {name} in it ({error.strerror})"
            raise UsageError(
                f"--adapter {folder}: found {found}, expected a folder that sekft-train --out wrote."
            ) from None
    return f"sha256:{digest.hexdigest()}"
