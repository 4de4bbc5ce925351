"""The records of the render contract: a message, a trained example, and why a session is refused."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tiararodney.sekft.errors import SekftError

IGNORED = -100
"""The label of a position that is not trained."""
Span = tuple[int, int]
"""A half-open range of positions."""


@dataclass(frozen=True, slots=True, eq=False)
class Message(Mapping[str, str]):
    """One turn of a session; reads as the mapping ``{"role": ..., "content": ...}`` too.

    Args:
        role: ``system``, ``user`` (the environment) or ``assistant`` (the operator).
        content: the turn's text.
        train: whether an assistant turn is a training target; False leaves it in the session as context (a mistake
            that the operator goes on to correct). No template sees it, so it is no key of the mapping.
    """

    role: str
    content: str
    train: bool = True

    def __getitem__(self, key: str) -> str:
        return {"role": self.role, "content": self.content}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("role", "content"))

    def __len__(self) -> int:
        return 2

    def __hash__(self) -> int:
        return hash((self.role, self.content))


Messages = Sequence[Any]
"""What the contract's functions take as a session: mappings or records with a role and a content."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to train on.

    Args:
        input_ids: token ids.
        labels: the id at every trained position, `IGNORED` elsewhere; as long as `input_ids`.
        turns: indices (in the normalised session) of the assistant turns trained here, ascending.
        spans: for each of `turns`, the half-open range of its trained positions.
        crossing: text of the token that would cross the border between the last turn's prompt and its reply if both
            were encoded as one; empty where none does. It is why this example had to end where it ends.
        final: whether the last of `turns` is the session's last: its terminal.
        masked: ranges of the replies that stand here as context because their record says not to train them.
        weights: what each position counts in the loss; as long as `input_ids`. Where not given: 1 at trained
            positions, 0 elsewhere, as an array of 32-bit floats (a data set holds one for every token).
    """

    input_ids: list[int]
    labels: list[int]
    turns: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    crossing: str = ""
    final: bool = False
    masked: tuple[Span, ...] = ()
    weights: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.weights:
            weights = array("f", [0.0 if label == IGNORED else 1.0 for label in self.labels])
            object.__setattr__(self, "weights", weights)


def weigh_terminal(example: Example, weight: float) -> Example:
    """Return an example in which the tokens of a session's last turn count `weight` times as much in the loss."""
    if not example.final or weight == 1:
        return example
    start, end = example.spans[-1]
    weights = array("f", example.weights)
    weights[start:end] = array("f", [w * weight for w in weights[start:end]])
    return replace(example, weights=weights)


class RefusalReason(StrEnum):
    """Why a session cannot be trained on. Closed: a session that is refused is refused for one of these."""

    NOT_A_CHAT = "not_a_chat"
    """No chat can mean it: empty, an unknown role, the first turn an assistant turn, content that is no text."""
    TOOL_CALL = "tool_call"
    """A turn calls a tool or is a tool's answer: sessions here are commands and what a terminal shows for them."""
    NO_REPLY = "no_reply"
    """Nothing to train: no assistant turn, or none that its record lets be trained."""
    EMPTY_REPLY = "empty_reply"
    """A reply of no text, or of white space alone: the model would learn to end its turn at once."""
    ENDS_IN_USER_TURN = "ends_in_user_turn"
    """The operator never ended it: the last turn is the environment's."""
    TEMPLATE_REFUSES = "template_refuses"
    """The chat template raises on the session."""
    REPLY_REWRITTEN = "reply_rewritten"
    """The template does not show the reply as it was given."""
    NO_END_OF_TURN = "no_end_of_turn"
    """The template writes no token after a reply, so a model could not learn to stop there."""
    PROMPT_DIVERGES = "prompt_diverges"
    """The prompt that is served opens text, other than a thought, which the template puts before no recorded reply."""
    CONTROL_TOKEN_IN_REPLY = "control_token_in_reply"  # noqa: S105 - a reason, no secret
    """The reply holds a control token: a served model would stop, or start a turn, in its middle."""
    NOT_REVERSIBLE = "not_reversible"
    """The reply's tokens do not decode to the reply: the tokenizer loses text."""


class SessionRefused(SekftError):
    """A session cannot be rendered exactly.

    Args:
        reason: one of the closed set.
        detail: what was found, for people.
        turn: index of the turn in the normalised session, None where it is the session as a whole.
    """

    def __init__(self, reason: RefusalReason, detail: str = "", turn: int | None = None) -> None:
        self.reason, self.detail, self.turn = reason, detail, turn
        where = "" if turn is None else f" at turn {turn}"
        super().__init__(f"session refused ({reason}){where}" + (f": {detail}" if detail else ""))

    def __reduce__(self) -> tuple[type[SessionRefused], tuple[RefusalReason, str, int | None]]:
        return type(self), (self.reason, self.detail, self.turn)
