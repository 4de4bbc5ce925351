"""NF4 copies of bases, kept on disk after the first load: quantising is paid once.

A copy lies under `$XDG_CACHE_HOME/sekft/nf4` (`~/.cache` where that is not set), in a folder whose name is a hash of
all that decides its bits. Its files' own hashes are compared at every load: a copy that is damaged is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.folders import drop_unfinished, new_folder
from tiararodney.sekft.model import fourbit
from tiararodney.sekft.model.fingerprint import base_fingerprint, weight_files
from tiararodney.sekft.model.loading import load_model, quantised_with
from tiararodney.sekft.provenance import sha256_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MANIFEST = "sekft.json"
ABANDONED = 3600.0  # seconds after which a copy that is being written is one that a killed process left
UNUSED_DAYS = 30  # after which a copy is removed when another is written


def load_four_bit(folder: Path, device: str, dtype: torch.dtype) -> Any:  # transformers ships no types
    """Load a base in NF4, as `load_model`: from the copy on disk, or quantising it, which leaves a copy there."""
    if quantised_with(folder) is not None:
        return load_model(folder, device, dtype, four_bit=True)
    of = _deciding(folder, device, dtype)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sekft" / "nf4"
    copy = root / hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:32]
    if copy.exists():
        try:
            _check(copy)
            model = load_model(copy, device, dtype, four_bit=True)
        except (UsageError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            log.warning("the NF4 copy %s is damaged (%r): it is made anew", copy, error)
            shutil.rmtree(copy, ignore_errors=True)
        else:
            model.config._name_or_path = model.name_or_path = str(folder)  # noqa: SLF001 - the only name it has
            return model
    model = load_model(folder, device, dtype, four_bit=True)
    _keep(model, copy, of)
    return model


def _check(copy: Path) -> None:
    """Compare the hashes of a copy's files, and note in the manifest's time that it is used."""
    manifest = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
    if damaged := [name for name, digest in manifest["files"].items() if sha256_of(copy / name) != digest]:
        raise ValueError(f"other bytes in {', '.join(damaged)}")
    with suppress(OSError):
        os.utime(copy / MANIFEST)


def _keep(model: Any, copy: Path, of: dict[str, Any]) -> None:
    """Write the copy of a base that has just been quantised. A disk that refuses costs the copy, not the run."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        drop_unfinished(copy, older=ABANDONED)
        # Of several processes that make the same copy, the first one's stays: others may be reading it.
        with new_folder(copy, replace=False) as fresh:
            model.save_pretrained(fresh)
            files = {file.name: sha256_of(file) for file in sorted(fresh.iterdir())}
            (fresh / MANIFEST).write_text(json.dumps({"files": files, "of": of}, indent=2) + "\n", encoding="utf-8")
        log.info("NF4 copy in %s", copy)
        for manifest in copy.parent.glob(f"*/{MANIFEST}"):
            if time.time() - manifest.stat().st_mtime > UNUSED_DAYS * 86400:
                log.info("NF4 copy %s removed: unused", manifest.parent)
                shutil.rmtree(manifest.parent, ignore_errors=True)
    except (OSError, RunFailed) as error:
        if not copy.is_dir():
            log.warning("no NF4 copy is kept: %s", error)


def _deciding(folder: Path, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """All that decides a copy's bits, and the files beside the weights that it takes along."""
    files = [*weight_files(folder), folder / "config.json", folder / "generation_config.json"]
    # What changes with every change of a file; the fingerprint only looks at samples of the weights.
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    return {
        "base": base_fingerprint(folder),
        "files": stamps,
        "versions": {name: metadata.version(name) for name in ("bitsandbytes", "transformers", "torch")},
        "setting": fourbit.quantisation_config().to_dict(),
        "device": device.partition(":")[0],
        "dtype": str(dtype),
    }
