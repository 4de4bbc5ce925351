"""Find models and adapters by folder or by hub id: from the hub's cache, else downloaded with a progress bar."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import UsageError

if TYPE_CHECKING:
    import os

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Kind:
    """What is looked for: its name and what its folder has, in words, and patterns of files."""

    name: str
    expected: str
    files: tuple[str, ...]  # to download
    needed: tuple[str, ...]  # without which a folder in the hub's cache is not complete

    def complete(self, folder: Path) -> bool:
        """Whether a folder has all that is needed, every shard that an index of weights names included."""
        needed = set(self.needed)
        if self is MODEL:
            for index in folder.glob("*.safetensors.index.json"):
                try:
                    needed |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
                except (OSError, ValueError, LookupError, TypeError, AttributeError):
                    return False
        return all(any(folder.glob(pattern)) for pattern in needed)


_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "config.json")
_MODEL = "a folder with config.json, weights (*.safetensors) and tokenizer.json"
MODEL = Kind(
    "model",
    _MODEL,
    (*_TOKENIZER_FILES, "generation_config.json", "README.md", "*.safetensors*"),
    ("config.json", "*.safetensors"),
)
TOKENIZER = Kind("model", _MODEL, _TOKENIZER_FILES, ("tokenizer.json",))
ADAPTER = Kind(
    "adapter",
    "a folder that sekft-train --out wrote",
    (*_TOKENIZER_FILES, "adapter_*", "render.json", "training.json"),
    ("adapter_config.json", "adapter_model.safetensors"),
)


def is_hub_id(name: str | os.PathLike[str]) -> bool:
    """Say whether a name, as a flag gave it, is no path here and can be an id on the hub (OWNER/NAME)."""
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
    return _download(str(name), kind, flag)


def id_of(folder: Path) -> str | None:
    """Return the hub id of a folder in the hub's cache, as `find` returned it; None for any other folder."""
    cached = re.search(r"/models--([^/]+)/snapshots/", folder.absolute().as_posix())
    return cached[1].replace("--", "/", 1) if cached else None


def _download(name: str, kind: Kind, flag: str) -> Path:
    """Return a repository's folder in the hub's cache; what of it is needed and not there is downloaded first."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    with suppress(LocalEntryNotFoundError):
        cached = Path(snapshot_download(name, local_files_only=True))
        if kind.complete(cached):
            return cached
    log.info("%s %s: downloading from the hub", flag, name)
    try:
        # some repositories hold their weights once more, for another program
        found = Path(snapshot_download(name, allow_patterns=list(kind.files), ignore_patterns="consolidated*"))
    except GatedRepoError as error:
        why = f"access to this {kind.name} is restricted. Accept its terms on the hub's page, then log in:"
        raise UsageError(f"{flag} {name}: {why} hf auth login.") from error
    except RepositoryNotFoundError as error:
        why = f"no such folder, and no {kind.name} of that name on the hub. Check the spelling; a private one"
        raise UsageError(f"{flag} {name}: {why} needs a login: hf auth login.") from error
    except Exception as error:  # the hub's client passes on what its HTTP client and the disk raise
        raise UsageError(
            f"{flag} {name}: no such folder, not in the hub's cache, and the hub does not answer "
            f"({' '.join(str(error).split())[:250]}). "
            f"Give a folder, or fetch it where there is a network: hf download {name}."
        ) from error
    if not kind.complete(found):
        raise UsageError(f"{flag} {name}: found no complete {kind.name} in {found}. Expected {kind.expected}.")
    return found
