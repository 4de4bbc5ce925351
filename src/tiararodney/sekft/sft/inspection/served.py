"""`--inspect --endpoint`: compare a live endpoint's prompts, turn by turn, with those that are trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.endpoint import Endpoint, Refused
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.render import normalize_for_template, render_prompt
from tiararodney.sekft.sft.inspection.routes import Prompt, Route, TooLong, ask_along, find_route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.sekft.render import Message, Tokenizer
    from tiararodney.sekft.trajectories import Session

_AROUND = 12
"""Tokens shown before the first that differs."""


_OTHER_TEMPLATE = (
    "The server renders with another template than the adapter's chat_template.jinja. Serve with that one (llama.cpp: "
    "--jinja, and --chat-template-file where the model's file does not carry it)."
)


@dataclass(frozen=True)
class Difference:
    """A turn whose prompt at the endpoint is not the trained one.

    Args:
        session: what the session is called.
        turn: index of the assistant turn among the session's messages.
        position: of the first token that differs; None where the server reports no tokens.
        before: text before it.
        trained: text of the token there as trained, empty where the trained prompt is over.
        served: the same as served.
        trained_length: tokens of the trained prompt.
        served_length: tokens of the served one; None where the server refuses the messages.
        refusal: what it said then.
    """

    session: str
    turn: int
    position: int | None = None
    before: str = ""
    trained: str = ""
    served: str = ""
    trained_length: int = 0
    served_length: int | None = None
    refusal: str = ""


@dataclass
class Comparison:
    """What an endpoint was asked and how it differs.

    Args:
        url: the endpoint.
        model: the model there.
        route: the way in which it reports its prompts.
        exact: whether it reports tokens, not only their number.
        sessions: sessions compared.
        turns: assistant turns compared.
        too_long: turns left out, as the prompt is longer than the server takes.
        differences: every turn that differs.
        causes: what explains them.
    """

    url: str
    model: str
    route: str
    exact: bool
    sessions: int = 0
    turns: int = 0
    too_long: int = 0
    differences: list[Difference] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def compare(endpoint: Endpoint, tok: Tokenizer, sessions: Sequence[Session]) -> Comparison:
    """Compare the prompt of every turn of some sessions.

    The messages go out as the session loop sends them, not normalised: the server's template has to do that.

    Args:
        endpoint: the server and the model.
        tok: what prompts are rendered with here, as in training.
        sessions: sessions that can be rendered.

    Raises:
        RunFailed: it stops answering, or answers without a prompt.
    """
    route = find_route(endpoint)
    result = Comparison(endpoint.url, endpoint.model, route.name, route.exact)
    for session in sessions:
        result.sessions += 1
        for turn, message in enumerate(session.messages):
            if message.role == "assistant" and session.messages[turn - 1].role != "assistant":
                _compare_turn(result, route, tok, session, turn)
    if result.differences and not result.causes and result.exact:
        result.causes.append(_OTHER_TEMPLATE)
    if not result.turns:
        raise RunFailed(f"--endpoint {endpoint.url}: found no prompt that it takes, all are longer than its context.")
    return result


def _compare_turn(result: Comparison, route: Route, tok: Tokenizer, session: Session, turn: int) -> None:
    upto = session.messages[:turn]
    trained = render_prompt(tok, upto)
    name = session.place
    try:
        served = ask_along(route, _plain(upto))
    except TooLong:
        result.too_long += 1
        return
    except Refused as refused:
        result.differences.append(Difference(name, turn, trained_length=len(trained), refusal=str(refused)))
        cause = None
    else:
        found = _difference(tok, trained, served, name, turn)
        if found is None:
            fits = route.context is None or len(trained) < route.context
            result.turns += fits
            result.too_long += not fits
            return
        result.differences.append(found)
        cause = _cause(tok, trained, served)
    result.turns += 1
    cause = _cause_of_messages(route, trained, upto) or cause
    if cause and cause not in result.causes:
        result.causes.append(cause)


def _difference(tok: Tokenizer, trained: list[int], served: Prompt, name: str, turn: int) -> Difference | None:
    """Return where two prompts part, None where they are the same."""
    if isinstance(served, int):
        same = served == len(trained)
        return None if same else Difference(name, turn, trained_length=len(trained), served_length=served)
    if list(served) == trained:
        return None
    pairs = zip(trained, served, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(trained), len(served)))
    return Difference(
        name,
        turn,
        at,
        tok.decode(trained[max(0, at - _AROUND) : at]),
        _text(tok, trained[at : at + 1]),
        _text(tok, served[at : at + 1]),
        len(trained),
        len(served),
    )


def _cause(tok: Tokenizer, trained: list[int], served: Prompt) -> str | None:
    """Name a difference that is of a kind known to happen."""
    if isinstance(served, int):
        return (
            "The server counts another number of tokens than was trained. One that reports tokens (vLLM's or "
            "llama.cpp's /tokenize) would show which."
        )
    ids = list(served)
    if ids[1:] == trained:
        return (
            f"The server puts {_text(tok, ids[:1])!r} in front, which the template writes already. Have it add no "
            "special tokens, or take the token out of its template."
        )
    if ids == trained[1:]:
        return f"The server leaves {_text(tok, trained[:1])!r} at the beginning out."
    if ids == trained[: len(ids)]:
        return f"The served prompt lacks its end {tok.decode(trained[len(ids) :])!r}: a generation prompt."
    if ids[: len(trained)] == trained:
        return f"The served prompt continues with {_text(tok, ids[len(trained) :])!r}, which was not trained."
    text, expected = _text(tok, ids), tok.decode(trained)
    if text != expected and text.split() == expected.split():
        return (
            "The prompts differ in white space alone: by a template that spaces otherwise, or a tokenizer that puts a "
            "space in front (in a GGUF file, see tokenizer.ggml.add_space_prefix)."
        )
    if text == expected:
        return (
            "The server cuts the same text into other tokens: its tokenizer is not the one that was trained with (in a "
            "GGUF file, see tokenizer.ggml.pre)."
        )
    return None


def _cause_of_messages(route: Route, trained: list[int], upto: Sequence[Message]) -> str | None:
    """Return what to do where the server lacks only the normalisation; None where something else differs."""
    try:
        served = ask_along(route, _plain(normalize_for_template(upto)))
    except (Refused, TooLong):
        return None
    same = served == len(trained) if isinstance(served, int) else list(served) == trained
    if not same or _plain(normalize_for_template(upto)) == _plain(upto):
        return None
    return (
        "The server applies the model's own template, which does not fold system turns and merge turns of one role. "
        "Serve the adapter with the chat_template.jinja in its folder."
    )


def _text(tok: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tok.decode(list(ids))
    except (OverflowError, IndexError, ValueError):
        return f"(ids {list(ids)}, which the tokenizer here does not know)"


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]
