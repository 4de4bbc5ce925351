"""An operator that gives prepared replies; for tests, the gate and demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.records.schema import Message


class ScriptedOperator:
    """Gives prepared replies one after the other, then ``exit``.

    Args:
        replies: the assistant turns.
        name: what records call it.
    """

    def __init__(self, replies: Sequence[str], name: str = "scripted") -> None:
        self.replies, self.name = tuple(replies), name
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._at = 0

    def reply(self, messages: Sequence[Message]) -> str:  # noqa: ARG002 - the protocol's argument
        """Return the next prepared reply."""
        self._at += 1
        return self.replies[self._at - 1] if self._at <= len(self.replies) else "exit"
