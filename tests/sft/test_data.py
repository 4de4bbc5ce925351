"""Examples as training holds them."""

from __future__ import annotations

import json
import tracemalloc

from tiararodney.sekft.sft.config import TrainConfig
from tiararodney.sekft.sft.data import read_examples


class Letters:
    """A tokenizer of characters, far beyond the ids that Python keeps one object of."""

    chat_template, bos_token, eos_token, control_tokens, anchors, definition = "", None, "\0", {"\0": 9000}, {}, ""

    def render_text(self, messages, *, add_generation_prompt):
        return "".join(m.content + ("\0" if m.role == "assistant" else "") for m in messages)

    def encode(self, text):
        return [9000 + ord(c) for c in text]

    def decode(self, ids):
        return "".join(chr(i - 9000) for i in ids)


def test_examples_share_the_objects_of_their_ids(tmp_path):
    turns = [{"role": "user", "content": "word " * 400}, {"role": "assistant", "content": "exit"}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"id": f"t{n}", "keep": True, "turns": turns}) + "\n" for n in range(50)))
    config = TrainConfig(base=tmp_path, out=tmp_path / "out", data=(path,))
    tracemalloc.start()
    examples = read_examples(config, Letters())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    first, second = examples.training[:2]
    assert first.input_ids[0] is second.input_ids[0]
    assert first.labels[-1] is first.input_ids[-1]
    assert len(examples.training) == 50
    per_token = held / sum(len(e.input_ids) for e in examples.training)
    assert per_token < 24, "two references, and no object of its own"


def test_examples_beyond_the_bases_positions_are_left_out_and_told(tmp_path, caplog):
    path = tmp_path / "d.jsonl"
    with path.open("w") as out:
        for n, words in enumerate((10, 400)):
            turns = [{"role": "user", "content": "word " * words}, {"role": "assistant", "content": "exit"}]
            out.write(json.dumps({"id": f"t{n}", "keep": True, "turns": turns}) + "\n")
    config = TrainConfig(base=tmp_path, out=tmp_path / "out", data=(path,), validation_fraction=0)
    examples = read_examples(config, Letters(), positions=100)
    assert [len(e.input_ids) for e in examples.training] == [55]
    assert examples.counts["over_max_length"] == 1
    assert "2005 tokens, over the 100 positions of the base; left out whole" in caplog.text


def test_a_refused_session_is_logged_with_its_reason(tmp_path, caplog):
    path = tmp_path / "d.jsonl"
    with path.open("w") as out:
        for n, command in enumerate(("exit", " ")):
            turns = [{"role": "user", "content": "$ "}, {"role": "assistant", "content": command}]
            out.write(json.dumps({"id": f"t{n}", "keep": True, "turns": turns}) + "\n")
    read_examples(TrainConfig(base=tmp_path, out=tmp_path / "out", data=(path,)), Letters())
    assert "refused (empty_reply): t1 " in caplog.text
