"""NF4 copies of bases, kept on disk after the first load: quantising is paid once.

A copy lies under `$XDG_CACHE_HOME/sekft/nf4` (`~/.cache` where that is not set), in a folder whose name is a hash of
all that decides its bits: the base's weights, the versions that quantise and load, the setting, and the kind of device
that quantised. Its files' own hashes are compared at every load: a copy that is damaged is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.folders import drop_unfinished, new_folder
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.fingerprint import base_fingerprint, weight_files

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

MANIFEST = "sekft.json"
STRETCH = 64 * 2**20  # bytes that are hashed at a time, side by side
ABANDONED = 3600.0  # seconds after which a copy that is being written is one that a killed process left
DECIDING = ("bitsandbytes", "transformers", "torch")
UNUSED_DAYS = 60  # after which a copy is removed when another is written


def find_copy(folder: Path, device: str, dtype: str) -> Path | None:
    """Find the NF4 copy of a base.

    Args:
        folder: The base's.
        device: What will compute: "cpu", "cuda:0" ...
        dtype: The compute type.

    Returns:
        A model folder that transformers loads; None where there is none, or only a damaged one, which is removed.
    """
    copy = _place(folder, device, dtype)
    try:
        manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
        damaged = [name for name, digest in manifest["files"].items() if file_digest(copy / name) != digest]
    except FileNotFoundError as error:
        if not copy.exists():
            return None
        damaged = [error.filename or MANIFEST]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        damaged = [MANIFEST]
    if not damaged:
        with contextlib.suppress(OSError):
            (copy / MANIFEST).touch()  # says when it was last used
        return copy
    log.warning("the NF4 copy %s is damaged (%s): it is made anew", copy, ", ".join(map(str, damaged)))
    shutil.rmtree(copy, ignore_errors=True)
    return None


def keep_copy(model: Any, folder: Path, device: str, dtype: str) -> None:  # transformers ships no types
    """Write the NF4 copy of a base that has just been quantised. A disk that refuses costs the copy, not the run.

    Args:
        model: The quantised model, before its first forward.
        folder: The base's.
        device: What quantised it.
        dtype: The compute type.
    """
    # save_pretrained asks for a state_dict, which reads repacked weights wrongly.
    fourbit.guard_against_repacking(model)
    copy = _place(folder, device, dtype)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        drop_unfinished(copy, older=ABANDONED)
        # Of several processes that make the same copy, the first one's stays: others may be reading it.
        with new_folder(copy, replace=False) as fresh:
            model.save_pretrained(fresh)
            files = {file.name: file_digest(file) for file in sorted(fresh.iterdir())}
            manifest = {"files": files, "of": _deciding(folder, device, dtype)}
            (fresh / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except (OSError, RunFailed) as error:
        if not copy.is_dir():
            log.warning("no NF4 copy is kept: %s", error)
        return
    log.info("NF4 copy in %s", copy)
    _prune(copy, _deciding(folder, device, dtype))


def _prune(written: Path, deciding: Mapping[str, Any]) -> None:
    """Remove the copies that `written` replaces, made by other versions of the libraries, and those long unused."""
    same = {name: value for name, value in deciding.items() if name != "versions"}
    for manifest in cache_root().glob(f"*/{MANIFEST}"):
        if manifest.parent == written:
            continue
        try:
            of = json.loads(manifest.read_text(encoding="utf-8"))["of"]
            replaced = {name: of[name] for name in same} == same
            unused = time.time() - manifest.stat().st_mtime > UNUSED_DAYS * 86400
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another process is at it, or it is found damaged when it is next asked for
        if replaced or unused:
            log.info("NF4 copy %s removed: %s", manifest.parent, "made by other versions" if replaced else "unused")
            shutil.rmtree(manifest.parent, ignore_errors=True)


def cache_root() -> Path:
    """Where copies lie.

    Returns:
        A folder, which may not exist.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sekft" / "nf4"


def file_digest(file: Path) -> str:
    """Hash a file of gigabytes on all cores.

    Args:
        file: The file.

    Returns:
        The SHA-256, in hex, of the SHA-256s of its stretches of 64 MiB.
    """

    def one(begin: int) -> bytes:
        with file.open("rb") as stream:
            stream.seek(begin)
            return hashlib.sha256(stream.read(STRETCH)).digest()

    with ThreadPoolExecutor() as pool:
        parts = pool.map(one, range(0, max(1, file.stat().st_size), STRETCH))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _place(folder: Path, device: str, dtype: str) -> Path:
    text = json.dumps(_deciding(folder, device, dtype), sort_keys=True)
    return cache_root() / hashlib.sha256(text.encode()).hexdigest()[:32]


def _deciding(folder: Path, device: str, dtype: str) -> Mapping[str, Any]:
    return {
        "base": base_fingerprint(folder),
        "files": _stamps(folder),
        "settings": _settings(folder),
        "versions": {name: metadata.version(name) for name in DECIDING},
        "setting": fourbit.quantisation_config().to_dict(),
        "device": device.partition(":")[0],
        "dtype": dtype,
    }


def _stamps(folder: Path) -> list[list[Any]]:
    """What changes with every change of the weights; the fingerprint only looks at samples of them."""
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in weight_files(folder)]


def _settings(folder: Path) -> str:
    """Hash the files beside the weights that a copy takes along."""
    digest = hashlib.sha256()
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        digest.update(file.read_bytes() if file.is_file() else b"none")
    return digest.hexdigest()
