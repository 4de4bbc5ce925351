"""Find models and adapters by folder or by hub id: from the hub's cache, else downloaded with a progress bar."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SECONDS = 10.0  # for the hub's first answer


@dataclass(frozen=True)
class Kind:
    """What is looked for.

    Args:
        name: For messages.
        expected: What a folder of it has.
        files: Patterns of the files to download.
        complete: Whether a folder has all that is needed.
    """

    name: str
    expected: str
    files: tuple[str, ...]
    complete: Callable[[Path], bool]


def _has_weights(folder: Path) -> bool:
    """Whether a model's folder has every shard that its index names, or one file of weights."""
    for index in folder.glob("*.index.json"):
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        return all((folder / name).is_file() for name in names)
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "config.json")
_MODEL = "a folder with config.json, weights and tokenizer.json"
MODEL = Kind(
    "model",
    _MODEL,
    (*_TOKENIZER_FILES, "generation_config.json", "README.md", "*.safetensors*", "pytorch_model*"),
    lambda folder: (folder / "config.json").is_file() and _has_weights(folder),
)
TOKENIZER = Kind("model", _MODEL, _TOKENIZER_FILES, lambda folder: (folder / "tokenizer.json").is_file())
ADAPTER = Kind(
    "adapter",
    "a folder that sekft-train --out wrote",
    (*_TOKENIZER_FILES, "adapter_*", "render.json", "training.json"),
    lambda folder: (folder / "adapter_config.json").is_file() and (folder / "adapter_model.safetensors").is_file(),
)

DATA_SET = Kind("data set", "a data set", (), Path.is_dir)


def is_hub_id(name: str | os.PathLike[str]) -> bool:
    """Say whether a name that is no path here can be an id on the hub (OWNER/NAME).

    Args:
        name: As a flag gave it.
    """
    return _ID.fullmatch(str(name)) is not None and not Path(name).exists()


def find(name: str | os.PathLike[str], kind: Kind, flag: str) -> Path:
    """Find the folder that a name stands for; what is on the hub alone is downloaded.

    Args:
        name: A folder, or an id on the hub where none is there by that name.
        kind: What it is to be: `MODEL`, `TOKENIZER` or `ADAPTER`.
        flag: What named it, for messages.

    Returns:
        A folder. One of this machine is returned as it is, complete or not.

    Raises:
        UsageError: There is none, here or on the hub, or the hub cannot be asked.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        return folder
    if not is_hub_id(name):
        raise UsageError(
            f"{flag} {name}: no such folder, and not a hub id. Expected {kind.expected}, or OWNER/NAME on the hub."
        )
    return _cached(str(name), kind) or _download(str(name), kind, flag)


def check_data_set(name: str) -> None:
    """Ask the hub for a data set before a library that retries for half a minute does.

    Args:
        name: Its id.

    Raises:
        UsageError: There is none, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"--data {name}: no such file or folder, and HF_HUB_OFFLINE is set. Give a file or folder.")
    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except Exception as error:  # the hub's client passes on what its HTTP client raises
        raise _refusal(name, DATA_SET, "--data", error) from error


def id_of(folder: Path) -> str | None:
    """Return the hub id of a folder in the hub's cache; None for any other folder.

    Args:
        folder: As `find` returned it.
    """
    parts = folder.absolute().parts
    for index, part in enumerate(parts[:-1]):
        if part.startswith("models--") and parts[index + 1] == "snapshots":
            return part.removeprefix("models--").replace("--", "/", 1)
    return None


def _cached(name: str, kind: Kind) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if kind.complete(folder) else None


def _download(name: str, kind: Kind, flag: str) -> Path:
    """Download what is needed of a repository; the hub is asked once first, so that a typo does not wait."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise UsageError(
            f"{flag} {name}: not in the hub's cache, and HF_HUB_OFFLINE is set. "
            f"Fetch it where there is a network: hf download {name}."
        )
    try:
        files = [f.rfilename for f in HfApi().model_info(name, timeout=_SECONDS).siblings or []]
        # Some repositories hold their weights twice.
        twice = ["consolidated*"] + ["pytorch_model*"] * any(file.endswith(".safetensors") for file in files)
        log.info("%s %s: downloading from the hub", flag, name)
        folder = snapshot_download(name, allow_patterns=list(kind.files), ignore_patterns=twice)
    except Exception as error:  # the hub's client passes on what its HTTP client and the disk raise
        raise _refusal(name, kind, flag, error) from error
    found = Path(folder)
    if not kind.complete(found):
        raise UsageError(f"{flag} {name}: that repository of the hub does not fit. Expected {kind.expected}.")
    return found


def _refusal(name: str, kind: Kind, flag: str, error: Exception) -> UsageError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        remedy = "Accept its terms on the hub's page, then log in: hf auth login."
        return UsageError(f"{flag} {name}: access to this {kind.name} is restricted. {remedy}")
    if isinstance(error, RepositoryNotFoundError):
        remedy = "Check the spelling; a private one needs a login: hf auth login."
        return UsageError(f"{flag} {name}: no such folder, and no {kind.name} of that name on the hub. {remedy}")
    found = " ".join(str(error).split())[:200]
    fetch = f"hf download {'--repo-type dataset ' * (kind is DATA_SET)}{name}"
    return UsageError(
        f"{flag} {name}: no such folder, not in the hub's cache, and the hub does not answer ({found}). "
        f"Give a folder, or fetch it where there is a network: {fetch}."
    )
