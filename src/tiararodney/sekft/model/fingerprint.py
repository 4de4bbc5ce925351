"""What a base is: a name that follows its tensors and tokenizer, and a checksum of its weights in memory."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tiararodney.sekft.model.base import Base
    from tiararodney.sekft.render import Tokenizer

SAMPLES = 4  # stretches of a tensor that are looked at, each of SAMPLE_BYTES
SAMPLE_BYTES = 1024
ROW = 1024  # words of 8 bytes that a checksum sums into one
OUTPUT_HEAD = "lm_head.weight"
LINE = 300
# As safetensors files call them.
TYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


def base_fingerprint(folder: Path, tokenizer: Tokenizer | None = None) -> str:
    """Fingerprint the model in `folder`: every tensor's name, type, shape and a sample of its bytes, and the tokenizer.

    A sample (4 stretches of 1 KiB a tensor, evenly spread) because a whole hash of 14 GB costs more than loading them;
    a fine-tuned or otherwise different model differs in nearly every byte. Neither the number of files nor the
    configuration has a part in it: saved again in other shards it is the same base.

    Args:
        folder: A model folder in the Hugging Face layout.
        tokenizer: The folder's tokenizer, where it has been loaded already.

    Returns:
        "sha256:" and 64 hex digits.

    Raises:
        UsageError: A file of weights, or the tokenizer, cannot be read.
    """
    digest = hashlib.sha256()
    tensors: dict[str, bytes] = {}
    for file in weight_files(folder):
        try:
            tensors |= {name: _digest(tensor) for name, tensor in _tensors(file).items()}
        except Exception as error:  # whatever a damaged file makes its reader raise
            raise UsageError(
                f"{file}: found a file of weights that cannot be read ({first_line(error)}). Download it again."
            ) from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings")):
        tensors.pop(OUTPUT_HEAD, None)  # some savers write the embedding a second time, as the head
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name])
    digest.update((tokenizer or load_tokenizer(folder)).definition.encode())
    return f"sha256:{digest.hexdigest()}"


def weights_checksum(base: Base) -> str:
    """Hash the base's own weights, quantisation constants and buffers; adapters have no part in it.

    Words of 8 bytes are summed in rows (modulo 2^64) on the device, and the sums are hashed (64 hex digits): one
    changed word always shows, and a base of 7 billion weights takes as long as reading them once.
    """
    digest = hashlib.sha256()
    with base.lock:
        for name, tensor in sorted(_weights(base.model), key=lambda item: item[0]):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            data = tensor.contiguous().reshape(-1).view(torch.uint8)
            whole = data.numel() // (8 * ROW) * 8 * ROW
            digest.update(data[:whole].view(torch.int64).view(-1, ROW).sum(dim=1).cpu().numpy().tobytes())
            digest.update(data[whole:].cpu().numpy().tobytes())
    return digest.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a model folder by name, safetensors before the older formats; empty where there are none."""
    for pattern in ("model*.safetensors", "*.safetensors", "pytorch_model*.bin"):
        if files := sorted(path for path in folder.glob(pattern) if not path.name.startswith("adapter_")):
            return files
    return []


def first_line(error: BaseException) -> str:
    """What an error of a library says in its first line, or its class's name: at most `LINE` characters."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0].strip()
    return line if len(line) <= LINE else f"{line[:LINE]}..."


def _weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A model's own tensors by the names that they have without adapters."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        yield plain, tensor.detach()
        state = getattr(tensor, "quant_state", None)
        if state is not None and isinstance(getattr(state, "absmax", None), torch.Tensor):
            yield f"{plain}.absmax", state.absmax


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, mapped into memory: only what is looked at is read."""
    safe = file.suffix == ".safetensors"
    return dict(load_file(file) if safe else torch.load(file, map_location="cpu", mmap=True, weights_only=True))


def _digest(tensor: torch.Tensor) -> bytes:
    """Hash a tensor's type, shape and stretches of its bytes."""
    kind = str(tensor.dtype)
    digest = hashlib.sha256(json.dumps([TYPES.get(kind, kind), list(tensor.shape)]).encode())
    data = tensor.contiguous().flatten().view(torch.uint8)
    count = SAMPLES if len(data) > SAMPLES * SAMPLE_BYTES else 1
    each = SAMPLE_BYTES if count == SAMPLES else len(data)
    for index in range(count):
        begin = (len(data) - each) * index // max(count - 1, 1)
        digest.update(data[begin : begin + each].numpy())
    return digest.digest()


def probe_ids(size: int, count: int) -> list[int]:
    """Tokens to probe a model with: a walk that touches embeddings all over a vocabulary of `size`."""
    return [(7919 * i + 13) % size for i in range(1, count + 1)]
