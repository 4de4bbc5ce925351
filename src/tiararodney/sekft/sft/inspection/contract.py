"""What a user should know about a model's template and tokenizer before training on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.sekft.render import Message
from tiararodney.sekft.render.contract.canonical import marks_of
from tiararodney.sekft.render.reply import opened_thought

if TYPE_CHECKING:
    from tiararodney.sekft.render import Example, Tokenizer


def contract_findings(tok: Tokenizer, sample: Example | None) -> list[str]:
    """Return what is out of the ordinary, a sentence each.

    Args:
        tok: the tokenizer with the template that is trained with.
        sample: an example that ends in a trained turn, None where no session could be rendered.
    """
    probe = [Message("user", "$ ")]
    try:
        served = tok.render_text(probe, add_generation_prompt=True)
        closed = tok.render_text(probe, add_generation_prompt=False)
    except Exception as error:  # noqa: BLE001 - the template is a third party's program
        return [f"The template refuses a session of one user turn: {error}", *_token_findings(tok, sample)]
    bos, thought = tok.bos_token, opened_thought(served)
    marks = marks_of(tok.chat_template)
    settings = ", ".join(f"{k} = {str(v).lower()}" for k, v in (marks.settings if marks else {}).items())
    found = {
        "The template has no generation prompt: a reply follows the environment's turn at once.": served == closed,
        f"The generation prompt opens a thought ({thought.strip()}): replies are trained inside it, as it is served. "
        "Serve without a reasoning parser, which would take thoughts out of replies.": bool(thought),
        f"Thinking is turned off in the template ({settings}), for serving too.": bool(settings),
        f"The template writes {bos} twice.": bool(bos) and served.startswith(f"{bos}{bos}"),
    }
    return [*(text for text, true in found.items() if true), *_date_findings(tok), *_token_findings(tok, sample)]


def _date_findings(tok: Tokenizer) -> list[str]:
    marks = marks_of(tok.chat_template)
    if marks is not None and marks.clock:
        return ["The template prints the date: it is fixed at the day of training, for serving too."]
    if "strftime_now" in tok.chat_template:
        return ["The template prints the date: a prompt that is served another day differs from the trained one."]
    return []


def _token_findings(tok: Tokenizer, sample: Example | None) -> list[str]:
    out = []
    if not tok.control_tokens:
        out.append("The tokenizer has no special tokens: no end of turn can be learnt.")
    if sample is not None and tok.eos_token is not None:
        end = sample.input_ids[-1]
        if end != tok.control_tokens.get(tok.eos_token):
            out.append(f"A turn ends in {tok.decode([end])!r}, the EOS token is {tok.eos_token!r}: stop at both.")
    return out
