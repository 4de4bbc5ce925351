"""Who takes part in a run, checked before anything is loaded or played."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.endpoint import Endpoint
from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval.report import ADAPTER, BASE, ENDPOINT, OPERATOR, Contestant
from tiararodney.sekft.render import check_contract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.model import Base
    from tiararodney.sekft.render import Tokenizer

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def contestants(config: EvalConfig, base: Base | None) -> list[Contestant]:
    """Return who takes part, in the order of the report.

    Args:
        config: the run.
        base: a base that is loaded already, None for ``config.base``.

    Raises:
        UsageError: the base or an adapter is none, or a server does not answer or does not know the model.
        ContractMismatch: an adapter's render contract differs, and the run does not ignore that.
    """
    if config.operator is not None:
        return [Contestant(config.operator, OPERATOR, "")]
    if config.endpoint:
        for server in (server for model in config.models for server in endpoints(config, model)):
            server.check()
        return [Contestant(name, ENDPOINT, ", ".join(config.endpoint)) for name in config.models]
    if base is not None:
        path, fingerprint, tokenizer = base.path, base.fingerprint, base.tokenizer
    else:
        from tiararodney.sekft.model import base_fingerprint
        from tiararodney.sekft.model.base import find_folder
        from tiararodney.sekft.tokenizer import load_tokenizer

        assert config.base is not None
        path = find_folder(config.base)
        fingerprint, tokenizer = base_fingerprint(path), load_tokenizer(path)
    out = [] if config.no_base else [Contestant("base", BASE, str(path), fingerprint)]
    for name, given in named_adapters(config.adapters):
        folder = hub.find(given, hub.ADAPTER, "--adapter")
        fingerprint = adapter_fingerprint(folder)
        out.append(Contestant(name, ADAPTER, str(folder), fingerprint, _contract(folder, tokenizer, config)))
    return out


def endpoints(config: EvalConfig, model: str) -> list[Endpoint]:
    """Return the servers of a run, each asked for one model."""
    key, seconds = config.api_key_env, config.request_seconds
    return [Endpoint(url, model, key_variable=key, timeout=seconds) for url in config.endpoint]


def _contract(folder: Path, tokenizer: Tokenizer, config: EvalConfig) -> str:
    """Return what the report says of an adapter's render contract."""
    try:
        check_contract(folder, tokenizer)
    except ContractMismatch as error:
        if not config.ignore_contract:
            raise ContractMismatch(f"{error} With --ignore-contract it is evaluated all the same.") from None
        return str(error)
    return "match"


def check_unseen(config: EvalConfig, field: Sequence[Contestant], scenarios: Sequence[str]) -> list[str]:
    """Hold the evaluated scenarios against what each adapter was trained on, as its ``training.json`` lists it.

    Args:
        config: the run.
        field: who takes part.
        scenarios: ids of the scenarios that are played.

    Returns:
        Notes for the report: an overlap that the user chose to allow, a base in another precision than in training.

    Raises:
        UsageError: a scenario was trained on, and the run does not allow that.
    """
    notes = []
    for folder in (Path(c.path) for c in field if c.kind == ADAPTER):
        record = _record(folder)
        seen = sorted(set(scenarios) & set(record.get("data", {}).get("scenario_ids") or ()))
        if seen:
            found = f"{folder}: trained on {len(seen)} of the {len(scenarios)} scenarios, such as {seen[0]}"
            if not config.allow_seen:
                raise UsageError(
                    f"--adapter {found}. Evaluate on scenarios it has not seen (posix-sdc generate --split holdout), "
                    "or give --allow-seen."
                )
            notes.append(f"{found}: rates over these say nothing about new worlds.")
        trained = record.get("base", {}).get("four_bit")
        if isinstance(trained, bool) and trained != config.load_4bit:
            had, has = ("4-bit (NF4)", "unquantised") if trained else ("unquantised", "4-bit (NF4)")
            notes.append(f"{folder}: trained over a {had} base, evaluated over an {has} one: replies may differ.")
    return notes


def _record(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the parts of an adapter's ``training.json``; none where there is none, as beside one that others made."""
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: part for name, part in record.items() if isinstance(part, dict)} if isinstance(record, dict) else {}


def _named(given: Path) -> tuple[str, Path]:
    """Split NAME=DIR; the name is empty where only a folder was given."""
    name, equals, folder = str(given).partition("=")
    return (name, Path(folder)) if equals and name and "/" not in name and not given.exists() else ("", given)


def named_adapters(given: Sequence[Path]) -> list[tuple[str, Path]]:
    """Name adapters: as given (NAME=DIR), else by their folders, with as many parents as tell them apart.

    Returns:
        Name and folder of each.

    Raises:
        UsageError: a folder or a name was given twice.
    """
    split = [_named(one) for one in given]
    paths, chosen = [folder.expanduser().absolute() for _, folder in split], [name for name, _ in split if name]
    for items in (list(map(str, paths)), [*chosen, "base"]):
        if twice := [item for item in items if items.count(item) > 1]:
            raise UsageError(f"--adapter {twice[0]}: given twice (base is the base model's name). Tell them apart.")
    for depth in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = [name or "/".join(path.parts[-depth:]) for (name, _), path in zip(split, paths, strict=True)]
        if len(set(names)) == len(names) and "base" not in names:
            break
    return [(name, folder) for name, (_, folder) in zip(names, split, strict=True)]


def adapter_fingerprint(folder: Path) -> str:
    """Return the hash of an adapter's weights and configuration.

    Raises:
        UsageError: the folder is no adapter.
    """
    digest = hashlib.sha256()
    for name in _FILES:
        file = folder / name
        if not file.is_file():
            found = f"no {name} in it" if folder.is_dir() else "no such folder"
            raise UsageError(f"--adapter {folder}: found {found}, expected a folder that sekft-train --out wrote.")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
