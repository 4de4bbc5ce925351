"""`--inspect --endpoint`: compare a live endpoint's prompts, turn by turn, with those that are trained.

The first way to a server's prompts that answers is taken:

- llama.cpp: ``/apply-template`` renders the messages, ``/tokenize`` encodes the text as its chat completions do;
- vLLM: ``/tokenize`` takes the messages themselves;
- any other: ``usage.prompt_tokens`` of a chat completion of one token, a count and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.endpoint import UNAUTHORIZED, Endpoint, Refused, Unanswered, UnexpectedAnswer, is_too_long
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.render import normalize_for_template, render_prompt

if TYPE_CHECKING:
    from tiararodney.sekft.render import Message, Tokenizer
    from tiararodney.sekft.trajectories import Session

_AROUND = 12  # tokens shown before the first that differs
_ATTEMPTS = 2
_FAILED = 500
_SHOWN = 80
_OTHER_TEMPLATE = (
    "The server renders with another template than the adapter's chat_template.jinja. Serve with that one (llama.cpp: "
    "--jinja, and --chat-template-file where the model's file does not carry it)."
)
_OWN_TEMPLATE = (
    "The server applies the model's own template, which does not fold system turns and merge turns of one role. "
    "Serve the adapter with the chat_template.jinja in its folder."
)

Prompt = list[int] | int  # a prompt as a server reports it: its tokens, or only their number
Ask = Callable[[Endpoint, Sequence[Mapping[str, str]]], Prompt]


class _TooLong(Exception):
    """The server's context does not take a prompt."""


class _NoPrompt(Exception):
    """An answer without a prompt."""


@dataclass(frozen=True)
class Difference:
    """A turn, by its index among the messages, whose prompt at the endpoint is not the trained one.

    The position is that of the first token that differs, with the text before it and the token as trained and as served
    (empty behind a prompt's end); None where the server reports no tokens. Lengths are in tokens; where the server
    refuses the messages, the served one is None and `refusal` says why.
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


def compare(endpoint: Endpoint, tok: Tokenizer, sessions: Sequence[Session]) -> dict[str, Any]:
    """Compare the prompt of every turn of some sessions.

    The messages go out as the session loop sends them, not normalised: the server's template has to do that.

    Args:
        endpoint: the server and the model.
        tok: what prompts are rendered with here, as in training.
        sessions: sessions that can be rendered.

    Returns:
        JSON values: ``url``, ``model``, ``route`` (how it reports prompts), ``exact`` (tokens, not only their number),
        ``sessions`` and ``turns`` (compared), ``too_long`` (turns that its context does not take), ``differences``
        (see `Difference`) and ``causes`` (sentences that explain them).

    Raises:
        UsageError: it wants another key.
        RunFailed: it tells no prompts, stops answering, or its context takes none of them.
    """
    route, ask = _find_route(endpoint)
    context = _context(endpoint)
    turns = too_long = 0
    differences: list[Difference] = []
    causes: dict[str | None, None] = {}  # in the order of their first occurrence
    for session in sessions:
        for turn, message in enumerate(session.messages):
            if message.role != "assistant" or session.messages[turn - 1].role == "assistant":
                continue
            upto = session.messages[:turn]
            trained = render_prompt(tok, upto)
            try:
                served = _ask_again(ask, endpoint, _plain(upto))
            except _TooLong:
                too_long += 1
                continue
            except Refused as refused:
                differences.append(Difference(session.place, turn, trained_length=len(trained), refusal=str(refused)))
                cause = None
            else:
                if served in (trained, len(trained)):
                    fits = context is None or len(trained) < context  # a reply needs a token, too
                    turns, too_long = turns + fits, too_long + (not fits)
                    continue
                differences.append(_difference(tok, trained, served, session.place, turn))
                cause = _cause(tok, trained, served)
            turns += 1
            causes[_OWN_TEMPLATE if _lacks_normalisation(ask, endpoint, trained, upto) else cause] = None
    named = [cause for cause in causes if cause]
    exact = route != _COUNTED
    if not turns:
        raise RunFailed(f"--endpoint {endpoint.url}: found no prompt that it takes, all are longer than its context.")
    return {
        "url": endpoint.url,
        "model": endpoint.model,
        "route": route,
        "exact": exact,
        "sessions": len(sessions),
        "turns": turns,
        "too_long": too_long,
        "differences": [asdict(difference) for difference in differences],
        "causes": named or [_OTHER_TEMPLATE] * (exact and bool(differences)),
    }


def _find_route(endpoint: Endpoint) -> tuple[str, Ask]:
    """Find the way in which a server reports its prompts: its name, and what asks it."""
    failures: dict[str, Exception] = {}
    for name, ask in _ROUTES.items():
        try:
            ask(endpoint, [{"role": "user", "content": "$ "}])
        except (Refused, _TooLong, UnexpectedAnswer, Unanswered, _NoPrompt) as error:
            failures[name] = error
        else:
            return name, ask
    # llama.cpp lists its models without a key, so one may be wanted here for the first time. Others guard routes
    # that they do not have, too: what counts is the last one, which every server has.
    last = failures[_COUNTED]
    if isinstance(last, Refused) and last.status in UNAUTHORIZED:
        raise endpoint.unauthorized(last)
    tried = "; ".join(f"{name}: {error}" for name, error in failures.items())
    raise RunFailed(f"--endpoint {endpoint.url}: found no way to its prompts ({tried}).")


def _ask_again(ask: Ask, endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    """Ask in a way that has answered before; the server may still refuse these messages, or be gone."""
    try:
        return ask(endpoint, messages)
    except Unanswered as down:
        # llama.cpp says that a template refuses the messages with the status of its own failures.
        if down.status == _FAILED:
            raise Refused("--endpoint", down.status, str(down)) from None
        raise RunFailed(f"--endpoint {down}. It had answered before: is it still up?") from None
    except _NoPrompt as error:
        raise RunFailed(f"--endpoint: {error}; it had answered before.") from None


def _llama_cpp(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    body: dict[str, Any] = {"model": endpoint.model, "messages": messages, "add_generation_prompt": True}
    prompt = _field(endpoint.ask(f"{endpoint.root}/apply-template", body, _ATTEMPTS), "prompt", str)
    # As its chat completions do: /apply-template has taken a BOS off where the tokenizer adds one.
    return _tokens(endpoint, {"content": prompt, "add_special": True, "parse_special": True})


def _vllm(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    # As its chat completions do by default: special tokens are the template's business.
    return _tokens(endpoint, {"messages": messages, "add_generation_prompt": True, "add_special_tokens": False})


def _tokens(endpoint: Endpoint, body: dict[str, Any]) -> list[int]:
    answer = endpoint.ask(f"{endpoint.root}/tokenize", {"model": endpoint.model, **body}, _ATTEMPTS)
    tokens = _field(answer, "tokens", list)
    # llama.cpp answers a request for tokens of messages with none.
    if not tokens or not all(type(token) is int and token >= 0 for token in tokens):
        raise _NoPrompt(f"found tokens {str(tokens)[:_SHOWN]}, expected ids")
    return list(tokens)


def _usage(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, "temperature": 0.0}
    try:
        answer = endpoint.ask(f"{endpoint.api}/chat/completions", body, _ATTEMPTS)
    except Refused as refused:
        if is_too_long(refused):
            raise _TooLong(str(refused)) from None
        raise
    usage = _field(answer, "usage", dict)
    count = usage.get("prompt_tokens")
    if type(count) is not int or count < 1:
        raise _NoPrompt(f"found usage {usage!r}, expected prompt_tokens")
    return count


def _context(endpoint: Endpoint) -> int | None:
    """Return the context length in a list of models: vLLM's as `max_model_len`, llama.cpp's as `meta.n_ctx`."""
    try:
        models = endpoint.ask(f"{endpoint.api}/models", None, _ATTEMPTS)["data"]
        named = next((m for m in models if m["id"] == endpoint.model), models[0])
        length = named.get("max_model_len") or named["meta"]["n_ctx"]
    except (Refused, UnexpectedAnswer, Unanswered, KeyError, IndexError, TypeError, AttributeError):
        return None
    return length if isinstance(length, int) and length > 0 else None


_COUNTED = "usage.prompt_tokens of chat completions"
_ROUTES: Mapping[str, Ask] = {
    "llama.cpp's /apply-template and /tokenize": _llama_cpp,
    "vLLM's /tokenize": _vllm,
    _COUNTED: _usage,
}


def _field(answer: Any, name: str, kind: type) -> Any:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(value, kind):
        raise _NoPrompt(f"found {str(answer)[:_SHOWN]}, expected the field {name!r}")
    return value


def _difference(tok: Tokenizer, trained: list[int], served: Prompt, name: str, turn: int) -> Difference:
    """Where two prompts part."""
    if isinstance(served, int):
        return Difference(name, turn, trained_length=len(trained), served_length=served)
    pairs = zip(trained, served, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(trained), len(served)))
    before, one, other = tok.decode(trained[max(0, at - _AROUND) : at]), trained[at : at + 1], served[at : at + 1]
    return Difference(name, turn, at, before, _text(tok, one), _text(tok, other), len(trained), len(served))


def _cause(tok: Tokenizer, trained: list[int], served: Prompt) -> str | None:
    """Name a difference that is of a kind known to happen."""
    if isinstance(served, int):
        return "The server counts another number of tokens than was trained; one with /tokenize would show which."
    if served[1:] == trained:
        return (
            f"The server puts {_text(tok, served[:1])!r} in front, which the template writes already. Have it add no "
            "special tokens, or take the token out of its template."
        )
    if served == trained[1:]:
        return f"The server leaves {_text(tok, trained[:1])!r} at the beginning out."
    if served == trained[: len(served)]:
        return f"The served prompt lacks its end {tok.decode(trained[len(served) :])!r}: a generation prompt."
    if served[: len(trained)] == trained:
        return f"The served prompt continues with {_text(tok, served[len(trained) :])!r}, which was not trained."
    text, expected = _text(tok, served), tok.decode(trained)
    if text == expected:
        return (
            "The server cuts the same text into other tokens: its tokenizer is not the one that was trained with (in a "
            "GGUF file, see tokenizer.ggml.pre)."
        )
    if text.split() == expected.split():
        return (
            "The prompts differ in white space alone: by a template that spaces otherwise, or a tokenizer that puts a "
            "space in front (in a GGUF file, see tokenizer.ggml.add_space_prefix)."
        )
    return None


def _lacks_normalisation(ask: Ask, endpoint: Endpoint, trained: list[int], upto: Sequence[Message]) -> bool:
    """Whether the server serves the trained prompt of messages that were normalised before."""
    normal = _plain(normalize_for_template(upto))
    if normal == _plain(upto):
        return False
    try:
        return _ask_again(ask, endpoint, normal) in (trained, len(trained))
    except (Refused, _TooLong):
        return False


def _text(tok: Tokenizer, ids: Sequence[int]) -> str:
    try:
        return tok.decode(list(ids))
    except (OverflowError, IndexError, ValueError):
        return f"(ids {list(ids)}, which the tokenizer here does not know)"


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]
