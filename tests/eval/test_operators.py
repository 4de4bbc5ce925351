"""What a local model is asked, and what of its answer goes into the session."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.sekft.endpoint import Completion, Unanswered, UnexpectedAnswer
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.eval.contestants import BASELINES
from tiararodney.sekft.eval.episodes import Generation, prompt_hash
from tiararodney.sekft.eval.operators import endpoint_player, local_player, reply_text, stop_ids
from tiararodney.sekft.eval.worlds import scripts
from tiararodney.sekft.render import Message, render_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.operators import Player

CONFIG = EvalConfig(scenarios=Path("s"), out=Path("o"), max_new_tokens=8, temperature=0.5, seed=7)
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

    def decode(self, ids: Sequence[int]) -> str:
        names = {i: t for t, i in SPECIAL.items()}
        return b"".join(names[i].encode() if i in names else bytes([i]) for i in ids).decode("utf-8", "replace")


class Scripted:
    """Stands for the generator: keeps what it was asked, answers from a list."""

    base = SimpleNamespace(model=SimpleNamespace(generation_config=None))

    def __init__(self, *replies: tuple[str, bool], context: int = 1000) -> None:
        self.replies, self.context, self.asked = list(replies), context, []

    def submit(self, ids: Sequence[int], sampling: Any, *, adapter: str | None, key: str) -> Future[Any]:
        self.asked.append((list(ids), adapter, key, sampling.max_new_tokens))
        text, stopped = self.replies.pop(0)
        reply: Future[Any] = Future()
        reply.set_result(SimpleNamespace(ids=Bytes().encode(text), stopped=stopped))
        return reply


def session(player: Any, name: str = "s", sample: int = 0) -> Any:
    return player(SimpleNamespace(id=name), sample)


def local(generator: Any) -> Player:
    return local_player("tuned", generator, Bytes(), CONFIG)  # type: ignore[arg-type]


@pytest.mark.torch
def test_each_turn_is_asked_with_its_rendered_prompt_and_noted() -> None:
    generator = Scripted(("ls", True), ("echo a b", False))
    answer = session(local(generator), "s0", 1)
    prompts = [render_prompt(Bytes(), m) for m in (ONE, TWO)]
    assert [answer(ONE), answer(TWO)] == [
        ("ls", Generation(1, prompt_hash(prompts[0]), len(prompts[0]), tuple(b"ls"), "end")),
        ("echo a b", Generation(3, prompt_hash(prompts[1]), len(prompts[1]), tuple(b"echo a b"), "length")),
    ]
    assert generator.asked == [(prompt, "tuned", "s0/1", 8) for prompt in prompts]


@pytest.mark.torch
def test_a_prompt_that_leaves_no_room_gets_an_empty_reply() -> None:
    generator = Scripted(("ls", True), context=len(render_prompt(Bytes(), ONE)) + 8)
    answer = session(local(generator))
    (first, _), (second, note) = answer(ONE), answer(TWO)
    assert (first, second, note.stop) == ("ls", "", "context")
    assert len(generator.asked) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ls\n", "ls\n"), (" ls", " ls"), ("<bos>ls<eos>", "ls"), ("", ""), ("caf\u00e9", "caf\u00e9")],
)
def test_a_reply_is_the_text_without_control_tokens_and_nothing_else_is_changed(text: str, expected: str) -> None:
    assert reply_text(Bytes(), Bytes().encode(text)) == expected


def test_a_reply_ends_at_the_templates_token_at_eos_and_at_the_models_own() -> None:
    assert stop_ids(Bytes()) == {257, 258}
    assert stop_ids(Bytes(), 9) == {9, 257, 258}
    assert stop_ids(Bytes(), [9, 10]) == {9, 10, 257, 258}
    # Text after a reply that is no control token ends nothing.
    assert stop_ids(replace(Bytes(), end="\n", eos_token=None), 9) == {9}


class Server:
    """Stands for an `Endpoint`: answers, or raises what it is given."""

    def __init__(self, *answers: Any, lists_models: bool = True) -> None:
        self.answers, self.lists_models, self.asked = list(answers), lists_models, []

    def chat(self, messages: Any, limit: int, temperature: float, seed: int) -> Completion:
        self.asked.append((len(messages), limit, temperature, seed))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Completion)
        return answer

    def check(self) -> None:
        if not self.lists_models:
            raise UsageError("nobody there.")


def behind(*servers: Server, silent: Counter[str] | None = None) -> Player:
    return endpoint_player(servers, CONFIG, None, Counter() if silent is None else silent)  # type: ignore[arg-type]


def test_an_endpoint_is_asked_with_the_decoding_and_noted() -> None:
    server = Server(Completion("ls", "stop", prompt_tokens=5))
    assert session(behind(server))(TWO) == ("ls", Generation(3, "", 5, (), "end"))
    assert [asked[:3] for asked in server.asked] == [(3, 8, 0.5)]


def test_sessions_with_the_same_prompt_are_drawn_by_seeds_of_their_own() -> None:
    """The seed goes by scenario and sample: pairs of models share it, repeats do not."""
    server = Server(*[Completion("ls", "stop")] * 4)
    for name, sample in (("s0", 0), ("s0", 1), ("s1", 0), ("s0", 0)):
        session(behind(server), name, sample)(ONE)
    first, repeat, other, again = (asked[3] for asked in server.asked)
    assert first == again
    assert len({first, repeat, other}) == 3
    assert all(0 <= asked[3] < 2**31 for asked in server.asked)


def test_a_session_stays_with_one_of_several_replicas() -> None:
    servers = [Server(*[Completion("ls", "stop")] * 8) for _ in range(2)]
    two = behind(*servers)
    for key in "abcd":
        answer = session(two, key)
        answer(ONE)
        answer(TWO)
    assert [len(s.asked) for s in servers] == [4, 4]


@pytest.mark.parametrize("error", [Unanswered("timed out"), UnexpectedAnswer("HTTP 400: broken")])
def test_a_request_without_an_answer_is_the_sessions_own_error(error: Exception) -> None:
    with pytest.raises(InfrastructureError, match=str(error)):
        session(behind(Server(error)))(ONE)


def test_a_server_that_is_gone_ends_the_run() -> None:
    with pytest.raises(RunFailed, match=r"timed out\. Start the server again; the same command resumes\."):
        session(behind(Server(Unanswered("timed out"), lists_models=False)))(ONE)


def test_replies_without_content_are_counted_by_reason() -> None:
    silent: Counter[str] = Counter()
    answer = session(behind(Server(Completion("", "tool_calls"), Completion("", "context")), silent=silent))
    answer(ONE)
    answer(ONE)
    assert silent == {"no content (finish_reason tool_calls)": 1}


def test_operators_that_do_nothing_say_their_piece_and_leave() -> None:
    players = scripts(0)
    said = {}
    for name in BASELINES:
        answer = session(players[name])
        said[name] = [answer(ONE)[0], answer(TWO)[0]]
    assert [replies[0].split()[0] for replies in said.values()] == ["exit", "panic", "Sure!"]
    assert {replies[1] for replies in said.values()} == {"exit"}
