"""Who takes part in a run, checked before anything is loaded or played."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft import hub
from tiararodney.sekft.errors import ContractMismatch, UsageError
from tiararodney.sekft.eval.report import ADAPTER, BASE, ENDPOINT, Contestant
from tiararodney.sekft.render import check_contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.config import EvalConfig
    from tiararodney.sekft.render import Tokenizer

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def contestants(
    config: EvalConfig, base: Path | None, fingerprint: str, tokenizer: Tokenizer | None
) -> list[Contestant]:
    """Return who takes part, in the order of the report.

    Args:
        config: the run.
        base: folder of the base, None for an endpoint.
        fingerprint: the base's, as `sekft.model.base_fingerprint` gives it.
        tokenizer: the base's.

    Raises:
        UsageError: an adapter is no adapter folder.
        ContractMismatch: an adapter's render contract differs, and the run does not ignore that.
    """
    if config.endpoint:
        return [Contestant(name, ENDPOINT, ", ".join(config.endpoint)) for name in config.models]
    assert base is not None
    assert tokenizer is not None
    out = [] if config.no_base else [Contestant("base", BASE, str(base), fingerprint)]
    adapters = [_named(given) for given in config.adapters]
    for name, given in zip(unique_names(adapters), (given for _, given in adapters), strict=True):
        folder = hub.find(given, hub.ADAPTER, "--adapter")
        fingerprint = adapter_fingerprint(folder)
        out.append(Contestant(name, ADAPTER, str(folder), fingerprint, _contract(folder, tokenizer, config)))
    return out


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
        seen = sorted(set(scenarios) & set(_part(record, "data").get("scenario_ids") or ()))
        if seen:
            found = f"{folder}: trained on {len(seen)} of the {len(scenarios)} scenarios, such as {seen[0]}"
            if not config.allow_seen:
                raise UsageError(
                    f"--adapter {found}. Evaluate on scenarios it has not seen (posix-sdc generate --split holdout), "
                    "or give --allow-seen."
                )
            notes.append(f"{found}: rates over these say nothing about new worlds.")
        trained = _part(record, "base").get("four_bit")
        if isinstance(trained, bool) and trained != config.load_4bit:
            had, has = ("4-bit (NF4)", "unquantised") if trained else ("unquantised", "4-bit (NF4)")
            notes.append(f"{folder}: trained over a {had} base, evaluated over an {has} one: replies may differ.")
    return notes


def _record(folder: Path) -> dict[str, Any]:
    """Return ``training.json`` of an adapter; empty where there is none, as beside an adapter that others made."""
    try:
        record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def _named(given: Path) -> tuple[str, Path]:
    """Split NAME=DIR; the name is empty where only a folder was given."""
    name, equals, folder = str(given).partition("=")
    return (name, Path(folder)) if equals and name and "/" not in name and not given.exists() else ("", given)


def unique_names(adapters: Sequence[tuple[str, Path]]) -> list[str]:
    """Name adapters: as given, else by their folders, with as many parents as tell them apart.

    Args:
        adapters: Name, empty where none was given, and folder.

    Raises:
        UsageError: A folder or a name was given twice.
    """
    paths = [folder.expanduser().absolute() for _, folder in adapters]
    given = [name for name, _ in adapters if name]
    for items in (list(map(str, paths)), given):
        if twice := [item for item in items if items.count(item) > 1]:
            raise UsageError(f"--adapter {twice[0]}: given twice. Give every adapter once.")
    if "base" in given:
        raise UsageError("--adapter base=...: base is the base model's own name. Name the adapter otherwise.")
    for depth in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = [name or "/".join(path.parts[-depth:]) for (name, _), path in zip(adapters, paths, strict=True)]
        if len(set(names)) == len(names) and "base" not in names:
            break
    return names


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
