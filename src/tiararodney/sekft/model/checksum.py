"""A checksum of a base's weights, computed where they lie."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from tiararodney.sekft.model.base import Base

ROW = 1024  # words of 8 bytes that are summed into one


def weights_checksum(base: Base) -> str:
    """Return a checksum of the base's own weights, quantisation constants and buffers; adapters have no part in it.

    Words of 8 bytes are summed in rows (modulo 2^64) on the device, and the sums are hashed: one changed word always
    shows, and a base of 7 billion weights takes as long as reading them once.

    Args:
        base: The base, with or without adapters.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256()
    with base.lock:
        for name, tensor in sorted(_tensors(base.model), key=lambda item: item[0]):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_sums(tensor))
    return digest.hexdigest()


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        yield plain, tensor.detach()
        state = getattr(tensor, "quant_state", None)
        if state is not None and isinstance(getattr(state, "absmax", None), torch.Tensor):
            yield f"{plain}.absmax", state.absmax


def _sums(tensor: torch.Tensor) -> bytes:
    data = tensor.contiguous().reshape(-1).view(torch.uint8)
    whole = data.numel() // (8 * ROW) * 8 * ROW
    sums = data[:whole].view(torch.int64).view(-1, ROW).sum(dim=1) if whole else data.new_empty(0)
    return bytes(sums.cpu().numpy().tobytes() + data[whole:].cpu().numpy().tobytes())
