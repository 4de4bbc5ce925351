"""A name for a base model's weights that follows them from folder to folder."""

import hashlib
import json
import struct
from pathlib import Path

SAMPLES = 64
SAMPLE_BYTES = 4096
# What transformers writes beside the architecture and may change from one save to the next.
VOLATILE = {"_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}


def base_fingerprint(folder: Path) -> str:
    """Fingerprint the model in `folder`: its configuration, the tensors' names and shapes, and a sample of the bytes.

    A sample (64 stretches of 4 KiB a file, evenly spread) because a whole hash of 14 GB costs more than loading them;
    a fine-tuned or otherwise different model differs in nearly every byte.

    Args:
        folder: A model folder in the Hugging Face layout.

    Returns:
        "sha256:" and 64 hex digits. The folder's own name and path have no part in it.
    """
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in VOLATILE}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for file in weight_files(folder):
        digest.update(_sample(file))
    return f"sha256:{digest.hexdigest()}"


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model folder, safetensors before the older formats.

    Args:
        folder: A model folder.

    Returns:
        The files in order of their names; empty where there are none.
    """
    for pattern in ("model*.safetensors", "*.safetensors", "pytorch_model*.bin"):
        if files := sorted(path for path in folder.glob(pattern) if not path.name.startswith("adapter_")):
            return files
    return []


def _sample(file: Path) -> bytes:
    digest = hashlib.sha256()
    size = file.stat().st_size
    digest.update(struct.pack("<Q", size))
    with file.open("rb") as stream:
        digest.update(stream.read(SAMPLE_BYTES))
        for index in range(SAMPLES):
            stream.seek(max(0, (size - SAMPLE_BYTES) * index // (SAMPLES - 1)))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.digest()
