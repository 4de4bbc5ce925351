"""`--inspect --endpoint`: compare a live endpoint's prompts, turn by turn, with those that are trained.

The first way to a server's prompts that answers is taken:

- llama.cpp: ``/apply-template`` renders the messages, ``/tokenize`` encodes the text as its chat completions do;
- vLLM: ``/tokenize`` takes the messages themselves;
- any other: ``usage.prompt_tokens`` of a chat completion of one token, a count and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

Prompt = list[int] | int | None
"""A prompt as a server reports it: its tokens, or only their number; None where it is longer than the context."""
Ask = Callable[[Endpoint, Sequence[Mapping[str, str]]], Prompt]


def compare(endpoint: Endpoint, tok: Tokenizer, sessions: Sequence[Session]) -> dict[str, Any]:
    """Compare the prompt of every turn of some sessions.

    The messages go out as the session loop sends them, not normalised: the server's template has to do that.

    Args:
        endpoint: the server and the model.
        tok: what prompts are rendered with here, as in training.
        sessions: sessions that can be rendered.

    Returns:
        JSON values: ``url``, ``model``, ``route`` (how it reports prompts), ``exact`` (tokens, not only their number),
        ``sessions`` and ``turns`` (compared), ``too_long`` (turns that its context does not take), ``differences`` and
        ``causes`` (sentences that explain them). A difference has ``session``, ``turn`` (index among the messages),
        ``position`` of the first token that differs (None where only numbers are reported), the text ``before`` it,
        the token as ``trained`` and as ``served`` (empty behind an end), ``trained_length`` and ``served_length`` in
        tokens, and the server's ``refusal`` of the messages, if it refuses them.

    Raises:
        UsageError: it wants another key.
        RunFailed: it tells no prompts, stops answering, or its context takes none of them.
        UnexpectedAnswer: it answers otherwise than before.
    """
    route, ask = _find_route(endpoint)
    context = _context(endpoint)
    turns = too_long = 0
    differences: list[dict[str, Any]] = []
    causes: dict[str, None] = {}  # in the order of their first occurrence
    for session in sessions:
        for turn, message in enumerate(session.messages):
            if message.role != "assistant" or session.messages[turn - 1].role == "assistant":
                continue
            upto = session.messages[:turn]
            trained = render_prompt(tok, upto)
            served, refusal = _ask_again(ask, endpoint, upto)
            same = served in (trained, len(trained))
            full = same and context is not None and len(trained) >= context  # a reply needs a token, too
            if full or (served is None and not refusal):
                too_long += 1
                continue
            turns += 1
            if not same:
                where = {"session": session.place, "turn": turn}
                differences.append(where | _difference(tok, trained, served, refusal))
                normal = normalize_for_template(upto)
                own = normal != list(upto) and _ask_again(ask, endpoint, normal)[0] in (trained, len(trained))
                causes[_OWN_TEMPLATE if own else _cause(tok, trained, served)] = None
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
        "differences": differences,
        "causes": [*filter(None, causes)] or [_OTHER_TEMPLATE] * (exact and bool(differences)),
    }


def _find_route(endpoint: Endpoint) -> tuple[str, Ask]:
    """Find the way in which a server reports its prompts: its name, and what asks it."""
    failures: dict[str, Exception] = {}
    for name, ask in _ROUTES.items():
        try:
            ask(endpoint, [{"role": "user", "content": "$ "}])
        except (Refused, UnexpectedAnswer, Unanswered) as error:
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


def _ask_again(ask: Ask, endpoint: Endpoint, messages: Sequence[Message]) -> tuple[Prompt, str]:
    """Ask in a way that has answered before: the prompt of these messages, or why the server refuses them."""
    try:
        return ask(endpoint, [{"role": m.role, "content": m.content} for m in messages]), ""
    except Refused as refused:
        return None, str(refused)
    except Unanswered as down:
        # llama.cpp says that a template refuses the messages with the status of its own failures.
        if down.status != _FAILED:
            raise RunFailed(f"--endpoint {down}. It had answered before: is it still up?") from None
        return None, str(down)


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
        raise UnexpectedAnswer(f"--endpoint: found tokens {str(tokens)[:_SHOWN]}, expected ids")
    return list(tokens)


def _usage(endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Prompt:
    body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, "temperature": 0.0}
    try:
        answer = endpoint.ask(f"{endpoint.api}/chat/completions", body, _ATTEMPTS)
    except Refused as refused:
        if is_too_long(refused):
            return None
        raise
    usage = _field(answer, "usage", dict)
    if not (count := int(_field(usage, "prompt_tokens", int))) > 0:
        raise UnexpectedAnswer(f"--endpoint: found usage {usage!r}, expected the number of prompt_tokens")
    return count


def _field(answer: Any, name: str, kind: type) -> Any:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(value, kind):
        raise UnexpectedAnswer(f"--endpoint: found {str(answer)[:_SHOWN]}, expected the field {name!r}")
    return value


def _context(endpoint: Endpoint) -> int | None:
    """Return the context length in a list of models: vLLM's as `max_model_len`, llama.cpp's as `meta.n_ctx`."""
    try:
        models = endpoint.ask(f"{endpoint.api}/models", None, _ATTEMPTS)["data"]
        named = next((m for m in models if m["id"] == endpoint.model), models[0])
        return max(int(named.get("max_model_len") or named["meta"]["n_ctx"]), 0) or None
    except (Refused, UnexpectedAnswer, Unanswered, LookupError, TypeError, ValueError, AttributeError):
        return None


_COUNTED = "usage.prompt_tokens of chat completions"
_ROUTES: Mapping[str, Ask] = {
    "llama.cpp's /apply-template and /tokenize": _llama_cpp,
    "vLLM's /tokenize": _vllm,
    _COUNTED: _usage,
}


def _difference(tok: Tokenizer, trained: list[int], served: Prompt, refusal: str) -> dict[str, Any]:
    """Where two prompts part."""
    found = {"position": None, "before": "", "trained": "", "served": "", "trained_length": len(trained)}
    if not isinstance(served, list):
        return found | {"served_length": served, "refusal": refusal}
    pairs = zip(trained, served, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(trained), len(served)))
    return found | {
        "position": at,
        "before": tok.decode(trained[max(0, at - _AROUND) : at]),
        "trained": _text(tok, trained[at : at + 1]),
        "served": _text(tok, served[at : at + 1]),
        "served_length": len(served),
        "refusal": "",
    }


def _cause(tok: Tokenizer, trained: list[int], served: Prompt) -> str:
    """Name a difference that is of a kind known to happen; empty for any other, and for messages that are refused."""
    if served is None:
        return ""
    if isinstance(served, int):
        return "The server counts another number of tokens than was trained; one with /tokenize would show which."
    if served[1:] == trained:
        return (
            f"The server puts {_text(tok, served[:1])!r} in front, which the template writes already. Have it add no "
            "special tokens, or take the token out of its template."
        )
    if served == trained[: len(served)]:
        return f"The served prompt lacks its end {tok.decode(trained[len(served) :])!r}: a generation prompt."
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
    return ""


def _text(tok: Tokenizer, ids: list[int]) -> str:
    try:
        return tok.decode(ids)
    except (OverflowError, IndexError, ValueError):
        return f"(ids {ids}, which the tokenizer here does not know)"
