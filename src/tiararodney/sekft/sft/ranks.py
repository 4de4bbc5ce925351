"""The processes of one run: which one this is, and what all of them add up and agree on.

A step's rows are dealt to the processes; each computes the gradient of its own, divided by what the tokens of the
whole step count, and the sums of all processes are the gradient of one process that took every row. So
`--tokens-per-batch` means the same however many processes there are. Only the first one writes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed

from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Ranks:
    """Who this process is among those of the run.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        local: Its number on this machine.
        sharded: Whether the base's weights are divided among the processes (FSDP).
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    sharded: bool = False

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all processes.

        Args:
            tensors: Of the same shapes and types everywhere.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def sums(self, values: Sequence[float], device: str) -> list[float]:
        """Add numbers up over all processes.

        Args:
            values: This process's.
            device: Where the processes meet.

        Returns:
            The sums, in fp64.
        """
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(tensor)
        added: list[float] = tensor.tolist()
        return added

    def worst(self, value: int, device: str) -> int:
        """The greatest of all processes' numbers.

        Args:
            value: This process's.
            device: Where the processes meet.

        Returns:
            The greatest.
        """
        if self.count == 1:
            return value
        tensor = torch.tensor(value, device=device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def share(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the first one's tensors, in place.

        Args:
            tensors: Of the same shapes and types everywhere.
        """
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def agree(self, what: str, value: object) -> None:
        """Refuse to go on where processes see different things.

        Args:
            what: What they see, for the message.
            value: What this one sees.

        Raises:
            RunFailed: Another process sees something else.
        """
        if self.count == 1:
            return
        seen: list[object] = [None] * self.count
        distributed.all_gather_object(seen, value)
        if odd := [number for number, other in enumerate(seen) if other != seen[0]]:
            raise RunFailed(
                f"process {odd[0]} has other {what} than process 0 ({seen[odd[0]]} and {seen[0]}). "
                "Give every machine the same files, or a file system that all of them share."
            )


def launched(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Read from the environment what `accelerate launch` (or torchrun) said.

    Args:
        environment: The process's.

    Returns:
        Who this process is; the only one where nobody launched several.

    Raises:
        UsageError: It was launched in a way that this program cannot do.
    """
    for key, name in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")):
        if environment.get(key, "false").lower() == "true":
            raise UsageError(f"accelerate launch: {name} is not supported. Use DDP (--multi_gpu) or FSDP (--use_fsdp).")
    if "WORLD_SIZE" not in environment:
        if "ACCELERATE_USE_CPU" in environment and "MASTER_ADDR" in environment:
            raise UsageError(
                "accelerate launch --cpu starts several processes through MPI only; found one that was told of others. "
                "Use `accelerate launch --multi_gpu --num_processes N`: it runs on CPUs too."
            )
        return Ranks()
    return Ranks(
        rank=int(environment["RANK"]),
        count=int(environment["WORLD_SIZE"]),
        local=int(environment.get("LOCAL_RANK", "0")),
        sharded=environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true",
    )


def own_device(ranks: Ranks, device: str) -> str:
    """Choose the device of this process: on a machine with several, the one of its number.

    Args:
        ranks: Who this process is.
        device: As configured: auto, cpu, cuda, cuda:0 ...

    Returns:
        The device; as configured where this process is the only one.

    Raises:
        UsageError: All processes were told to use the same accelerator.
    """
    if ranks.count == 1 or device == "cpu" or not torch.cuda.is_available():
        return device
    if device not in ("auto", "cuda"):
        raise UsageError(f"--device {device}: {ranks.count} processes need one each. Give --device cuda, or leave it.")
    return f"cuda:{ranks.local}"


@contextmanager
def meeting(ranks: Ranks, device: str) -> Iterator[None]:
    """Let the processes reach each other, for the length of a `with` block.

    Args:
        ranks: Who this process is.
        device: What it computes on: "cuda:1" ..., or anything else for the CPU.

    Yields:
        Nothing.
    """
    if ranks.count == 1:
        yield
        return
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
