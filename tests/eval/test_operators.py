"""What a local model is asked, and what of its answer goes into the session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.eval.operators import EndpointOperator, ModelOperator, Notes, reply_text, stop_ids
from tiararodney.sekft.render import Message, render_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPECIAL = {"<bos>": 256, "<end>": 257, "<eos>": 258}
ONE = [{"role": "user", "content": "hi\n$ "}]
TWO = [*ONE, {"role": "assistant", "content": "ls"}, {"role": "user", "content": "a b\n$ "}]


@dataclass(frozen=True)
class Bytes:
    """A tokenizer whose tokens are bytes, with three control tokens."""

    chat_template: str = "bytes"
    bos_token: str | None = "<bos>"
    eos_token: str | None = "<eos>"
    end: str = "<end>\n"
    anchors: frozenset[int] = frozenset(SPECIAL.values())
    definition: str = "bytes"

    @property
    def control_tokens(self) -> Mapping[str, int]:
        return SPECIAL

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        text = "<bos>" + "".join(f"{m.role}:{m.content}{self.end}" for m in messages)
        return text + "assistant:" * add_generation_prompt

    def encode(self, text: str) -> list[int]:
        out: list[int] = []
        while text:
            token = next((t for t in SPECIAL if text.startswith(t)), None)
            out += [SPECIAL[token]] if token else list(text[0].encode())
            text = text[len(token) if token else 1 :]
        return out

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        names = {i: t for t, i in SPECIAL.items()}
        return b"".join(names[i].encode() if i in names else bytes([i]) for i in ids).decode("utf-8", "replace")


class Scripted:
    """Stands for `model.Generator`: keeps what it was asked, answers from a list."""

    def __init__(self, *replies: tuple[str, bool]) -> None:
        self.replies, self.asked = list(replies), []

    def generate(self, prompts: Any, stop: Any, limit: int, temperature: float, seed: int, keys: Any) -> list[Any]:
        self.asked.append((prompts, stop, limit, temperature, seed))
        taken, self.replies = self.replies[: len(prompts)], self.replies[len(prompts) :]
        return [SimpleNamespace(ids=Bytes().encode(text), stopped=stopped) for text, stopped in taken]


def operator(generator: Scripted, context: int = 1000) -> ModelOperator:
    return ModelOperator("m", generator, Bytes(), frozenset({257}), context, 8, 0.5, 7)


def test_the_model_is_asked_with_the_rendered_prompts_of_all_sessions_at_once() -> None:
    generator = Scripted(("ls", True), ("exit", True))
    assert operator(generator).reply_batch([ONE, TWO]) == ["ls", "exit"]
    assert generator.asked == [([render_prompt(Bytes(), ONE), render_prompt(Bytes(), TWO)], {257}, 8, 0.5, 7)]


def test_every_turn_is_noted_with_its_prompts_hash_and_its_own_ids() -> None:
    op = operator(Scripted(("ls", True), ("echo a b", False)))
    op.reply_batch([ONE])
    op.reply_batch([TWO])
    notes = op.notes.of_session([*TWO, {"role": "assistant", "content": "echo a b"}])
    prompts = [render_prompt(Bytes(), m) for m in (ONE, TWO)]
    assert notes == (
        Generation(1, prompt_hash(prompts[0]), len(prompts[0]), tuple(b"ls"), "end"),
        Generation(3, prompt_hash(prompts[1]), len(prompts[1]), tuple(b"echo a b"), "length"),
    )


def test_a_session_that_no_longer_fits_gets_an_empty_reply_and_the_others_go_on() -> None:
    generator = Scripted(("ls", True))
    op = operator(generator, context=len(render_prompt(Bytes(), ONE)) + 8)
    assert op.reply_batch([TWO, ONE]) == ["", "ls"]
    assert generator.asked[0][0] == [render_prompt(Bytes(), ONE)]
    assert op.notes.of_session([*TWO, {"role": "assistant", "content": ""}])[-1].stop == "context"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ls\n", "ls\n"), (" ls", " ls"), ("<bos>ls<eos>", "ls"), ("", ""), ("caf\u00e9", "caf\u00e9")],
)
def test_a_reply_is_the_text_without_control_tokens_and_nothing_else_is_changed(text: str, expected: str) -> None:
    assert reply_text(Bytes(), Bytes().encode(text)) == expected


def test_a_turn_nobody_noted_has_an_empty_note() -> None:
    assert Notes().of_session(TWO) == (Generation(1),)


def test_a_reply_ends_at_the_templates_token_at_eos_and_at_the_models_own() -> None:
    assert stop_ids(Bytes()) == {257, 258}
    assert stop_ids(Bytes(), 9) == {9, 257, 258}
    assert stop_ids(Bytes(), [9, 10]) == {9, 10, 257, 258}
    # Text after a reply that is no control token ends nothing.
    assert stop_ids(replace(Bytes(), end="\n", eos_token=None), 9) == {9}


def test_an_endpoint_is_asked_for_every_session_and_answers_in_their_order() -> None:
    class Fake:
        def chat(self, messages: Any, limit: int, temperature: float, seed: int) -> Any:
            return SimpleNamespace(text=f"{len(messages)} {limit} {temperature} {seed}", stop="end", prompt_tokens=5)

    op = EndpointOperator("m", Fake(), 4, 8, 0.5, 7)  # type: ignore[arg-type]
    assert op.reply_batch([TWO, ONE]) == ["3 8 0.5 7", "1 8 0.5 7"]
    assert op.notes.of_session([*ONE, {"role": "assistant", "content": "x"}]) == (Generation(1, "", 5, (), "end"),)
