"""Generation: batches, kept caches, adapters, draws, memory."""

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from families import EMBEDDINGS, FAMILIES, make_base, save_adapter  # noqa: E402  # torch first, or the whole module is skipped

from tiararodney.sekft.errors import RunFailed, UsageError  # noqa: E402
from tiararodney.sekft.model import (  # noqa: E402
    Base,
    Generator,
    Sampling,
    attach_adapter,
    detach_adapter,
    use_adapter,
)
from tiararodney.sekft.model.adapters import switch_adapter  # noqa: E402
from tiararodney.sekft.model.generate import CHUNK  # noqa: E402
from tiararodney.sekft.model.sampling import choose, draw  # noqa: E402

pytestmark = pytest.mark.torch

# transformers cannot continue their caches, so every turn is computed anew.
UNKEPT = {"minimax", "jamba"}


def reference(base: Base, prompt: list[int], count: int) -> list[int]:
    """What transformers' own generate replies to one prompt, greedily."""
    ids = torch.tensor([prompt])
    how = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        out = base.model.generate(ids, attention_mask=torch.ones_like(ids), **how)
    return out[0, len(prompt) :].tolist()


def some_ids(seed: int, *lengths: int) -> list[list[int]]:
    source = random.Random(seed)
    return [[source.randrange(3, 250) for _ in range(length)] for length in lengths]


@pytest.fixture(scope="module")
def llama() -> Base:
    return make_base("llama")


@pytest.fixture(scope="module")
def tuned(llama: Base) -> Base:
    """The base with adapters "a" and "b" on it, and "dora", which PEFT cannot mix with others."""
    from peft import LoraConfig

    from tiararodney.sekft.model.adapters import add_adapter

    base = make_base("llama")
    for name in ("a", "b", "dora"):
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=name == "dora")
        add_adapter(base, config, name)
        for key, parameter in base.model.named_parameters():
            if f"lora_B.{name}" in key:
                torch.nn.init.normal_(parameter, std=0.3)
    return base


# ---- right on every family


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_turns_and_kept_caches_equal_transformers(family: str, monkeypatch: pytest.MonkeyPatch):
    """Three sessions of three turns: prompts beyond the window, several chunks, rows that join and leave."""
    monkeypatch.setitem(CHUNK, "cpu", 48)
    base = make_base(family)
    generator = Generator(base)
    prompts = some_ids(1, 60, 9, 30)
    for turn, more in enumerate(((20, 3, 40), (2, 33, 7), (0, 0, 0))):
        replies = generator.generate(prompts, (), 8 + turn)
        assert [reply.ids for reply in replies] == [reference(base, prompt, 8 + turn) for prompt in prompts]
        if turn:
            assert any(reply.cached_tokens for reply in replies) == (family not in UNKEPT)
        prompts = [p + r.ids + m for p, r, m in zip(prompts, replies, some_ids(turn, *more), strict=True)]


@pytest.mark.parametrize("family", ["llama", "mistral", "lfm2", "gpt_oss"])
def test_prompts_join_a_running_batch(family: str):
    base = make_base(family)
    generator = Generator(base)
    prompts = some_ids(2, 40, 12, 55, 12)
    running = threading.Event()
    first = generator.submit(prompts[0], Sampling(max_new_tokens=40), on_token=lambda _: running.set())
    assert running.wait(60)
    others = [generator.submit(prompt, Sampling(max_new_tokens=6 + i)) for i, prompt in enumerate(prompts[1:])]
    assert [other.result().ids for other in others] == [reference(base, p, 6 + i) for i, p in enumerate(prompts[1:])]
    assert first.result().ids == reference(base, prompts[0], 40)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3_next"])
def test_a_turn_that_rewrites_history_is_computed_anew(family: str):
    """The kept cache serves up to the first token that differs, or not at all."""
    base = make_base(family)
    generator = Generator(base)
    [prompt] = some_ids(3, 50)
    reply = generator.generate([prompt], (), 8)[0]
    changed = [*prompt[:45], *some_ids(4, 20)[0]]
    again = generator.generate([changed], (), 8)[0]
    assert reply.ids == reference(base, prompt, 8)
    assert again.ids == reference(base, changed, 8)
    assert again.cached_tokens == (45 if family == "llama" else 0)


# ---- replies


def test_a_stop_token_ends_one_row_only(llama: Base):
    prompts = some_ids(5, 7, 3, 12)
    whole = [reference(llama, prompt, 12) for prompt in prompts]
    stop = whole[0][2]
    for reply, expected in zip(Generator(llama).generate(prompts, {stop}, 12), whole, strict=True):
        assert reply.ids == (expected[: expected.index(stop)] if stop in expected else expected)
        assert reply.stopped == (stop in expected)


def test_tokens_stream_with_their_log_probabilities(llama: Base):
    [prompt] = some_ids(6, 9)
    tokens: list[Any] = []
    reply = Generator(llama).submit(prompt, Sampling(max_new_tokens=5, logprobs=3), on_token=tokens.append).result()
    assert tuple(tokens) == reply.tokens
    ids = prompt + [token.id for token in tokens]
    with torch.no_grad():
        expected = llama.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    for place, token in enumerate(tokens, len(prompt) - 1):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-4)
        assert [each[0] for each in token.top] == expected[place].topk(3).indices.tolist()
        assert token.top[0][0] == token.id


def test_a_reader_can_end_a_reply(llama: Base):
    [prompt] = some_ids(7, 9)
    seen: list[int] = []
    reply = Generator(llama).submit(
        prompt, Sampling(max_new_tokens=20), on_token=lambda token: (seen.append(token.id), len(seen) == 3)[1]
    )
    assert reply.result().ids == seen == reference(llama, prompt, 3)
    assert reply.result().stopped


def test_a_cancelled_reply_ends_and_others_go_on(llama: Base):
    one, other = some_ids(8, 9, 14)
    generator, begun = Generator(llama), threading.Event()
    long = generator.submit(one, Sampling(max_new_tokens=3000), on_token=lambda _: begun.set())
    short = generator.submit(other, Sampling(max_new_tokens=12))
    assert begun.wait(60)
    assert long.cancel()
    with pytest.raises(CancelledError):
        long.result(60)
    assert short.result().ids == reference(llama, other, 12)
    generator.generate([other], (), 1)
    assert not generator._rows, "the cancelled row has left the batch"


def test_a_prompt_cancelled_in_its_block_leaves_others_alone(llama: Base, monkeypatch: pytest.MonkeyPatch):
    long, short = some_ids(17, 120, 100)
    generator = Generator(llama)
    generator.generate([[1, 2, 3]], (), 1)
    real, begun, go = llama.model.forward, threading.Event(), threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(llama.model, "forward", slow)
    with llama.lock:  # both go into one block
        futures = [generator.submit(prompt, Sampling(max_new_tokens=4)) for prompt in (long, short)]
    assert begun.wait(60)
    assert futures[0].cancel()
    go.set()
    reply = futures[1].result(60)
    monkeypatch.undo()
    assert reply.ids == reference(llama, short, 4)


def test_python_exits_cleanly_in_the_middle_of_a_reply(tiny_base: Path):
    code = (
        "import sys, threading; from tiararodney.sekft.model import *\n"
        "generator = Generator(load_base(sys.argv[1], dtype='fp32', device='cpu'))\n"
        "begun = threading.Event()\n"
        "generator.submit([1, 2, 3], Sampling(max_new_tokens=4000), on_token=lambda _: begun.set())\n"
        "assert begun.wait(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_base)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_a_readers_fault_ends_its_own_reply_only(llama: Base):
    def fail(_: Any) -> bool:
        raise KeyError("reader")

    one, other = some_ids(9, 9, 14)
    generator = Generator(llama)
    broken = generator.submit(one, Sampling(max_new_tokens=5), on_token=fail)
    whole = generator.submit(other, Sampling(max_new_tokens=5))
    with pytest.raises(KeyError, match="reader"):
        broken.result()
    assert whole.result().ids == reference(llama, other, 5)


@pytest.mark.parametrize(
    ("prompt", "adapter", "says"),
    [([], None, "without tokens"), ([EMBEDDINGS], None, f"token id {EMBEDDINGS}"), ([1], "x", "no adapter 'x'")],
)
def test_what_cannot_be_continued_is_refused(llama: Base, prompt: list[int], adapter: str | None, says: str):
    with pytest.raises(UsageError, match=says):
        Generator(llama).submit(prompt, Sampling(), adapter=adapter)


# ---- draws


def test_draws_depend_on_seed_and_key_alone(llama: Base):
    prompts = some_ids(10, 7, 3, 12)
    sampling = Sampling(max_new_tokens=8, temperature=1.0, seed=3)
    together = [handle.result().ids for handle in [Generator(llama).submit(p, sampling, key="k") for p in prompts]]
    generator = Generator(llama)
    handles = [generator.submit(prompt, sampling, key="k") for prompt in prompts]
    assert [handle.result().ids for handle in handles] == together
    one, other = (generator.generate(prompts, (), 8, temperature=1.0, seed=seed) for seed in (3, 4))
    assert [reply.ids for reply in one] != [reply.ids for reply in other]


def test_equal_prompts_of_other_keys_get_other_replies(llama: Base):
    [prompt] = some_ids(11, 9)
    replies = Generator(llama).generate([prompt] * 8, (), 8, temperature=1.0)
    assert len({tuple(reply.ids) for reply in replies}) == 8


def test_samples_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])
    for top_p, left in ((1.0, [0, 1, 2]), (0.8, [1, 2]), (0.5, [2])):
        expected = torch.softmax(logits[0, left] / 0.7, dim=-1) if len(left) > 1 else torch.ones(1)
        how = Sampling(temperature=0.7, top_p=top_p)
        picked = [choose(logits, [how], [draw(0, "k", position)])[0].id for position in range(3000)]
        for token, chance in zip(left, expected.tolist(), strict=True):
            assert picked.count(token) / 3000 == pytest.approx(chance, abs=0.03)
        assert set(picked) == set(left)


# ---- adapters


def test_rows_of_base_and_adapters_share_a_batch(tuned: Base, llama: Base):
    prompts = some_ids(12, 9, 30, 5, 21)
    names = ["a", None, "b", "dora"]
    generator = Generator(tuned)
    for _turn in range(2):
        handles = [
            generator.submit(prompt, Sampling(max_new_tokens=8), adapter=name)
            for prompt, name in zip(prompts, names, strict=True)
        ]
        replies = [handle.result().ids for handle in handles]
        for prompt, name, reply in zip(prompts, names, replies, strict=True):
            with use_adapter(tuned, name):
                assert reply == reference(tuned, prompt, 8), name
        assert replies[1] == reference(llama, prompts[1], 8)
        prompts = [[*prompt, *reply, 7, 8] for prompt, reply in zip(prompts, replies, strict=True)]
    assert tuned.adapters.active is None


def test_one_adapters_cache_does_not_serve_another(tuned: Base):
    [prompt] = some_ids(13, 20)
    generator = Generator(tuned)
    for name in ("a", "b", None):
        reply = generator.submit(prompt, Sampling(max_new_tokens=8), adapter=name).result()
        assert reply.cached_tokens == 0
        with use_adapter(tuned, name):
            assert reply.ids == reference(tuned, prompt, 8)


def test_an_adapter_switched_to_before_the_first_step_stays_in_use(tuned: Base):
    generator = Generator(tuned)
    with tuned.lock:
        handle = generator.submit([1, 2, 3], Sampling(max_new_tokens=2))
        time.sleep(0.2)  # the generator waits for the lock now
        switch_adapter(tuned, "a")
    handle.result(60)
    with tuned.lock:
        found = tuned.adapters.active
        switch_adapter(tuned, None)
    assert found == "a"


def test_an_adapter_taken_off_ends_its_replies(tiny_base: Path, tmp_path: Path):
    from tiararodney.sekft.model import load_base

    base = load_base(tiny_base, dtype="float32", device="cpu")
    folder = save_adapter(tmp_path / "a", tiny_base)
    attach_adapter(base, folder, "a")
    generator, begun = Generator(base), threading.Event()
    handle = generator.submit([5, 6, 7], Sampling(max_new_tokens=3000), adapter="a", on_token=lambda _: begun.set())
    assert begun.wait(60)
    with base.lock:
        detach_adapter(base, "a")
        attach_adapter(base, folder, "a")
    with pytest.raises(UsageError, match="taken off"):
        handle.result(60)
    assert len(generator.submit([5, 6, 7], Sampling(max_new_tokens=3), adapter="a").result().ids) == 3


# ---- memory


def test_running_out_of_memory_halves_the_batch(llama: Base, monkeypatch: pytest.MonkeyPatch):
    prompts = some_ids(14, 9, 14, 22, 5)
    expected = [reference(llama, prompt, 8) for prompt in prompts]
    generator = Generator(llama)
    generator.generate([[1, 2, 3]], (), 1)
    real, sizes = llama.model.forward, []

    def small(*args: Any, **kwargs: Any) -> Any:
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return real(*args, **kwargs)

    monkeypatch.setattr(llama.model, "forward", small)
    assert [reply.ids for reply in generator.generate(prompts, (), 8)] == expected
    assert sizes[:2] == [4, 2]


def test_a_prompt_that_never_fits_is_named(
    llama: Base, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    generator = Generator(llama)
    generator.generate([[1, 2, 3]], (), 1)
    real = llama.model.forward

    def small(*args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **kwargs)

    monkeypatch.setattr(llama.model, "forward", small)
    long, short = some_ids(15, 170, 9)
    assert generator.generate([long], (), 4)[0].ids  # in chunks of 64 tokens, then less: it does fit

    def never(*_args: Any, **_kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(llama.model, "forward", never)
    assert "at most 64 replies at once, 64 tokens a chunk" in caplog.text
    caplog.clear()
    with pytest.raises(RunFailed, match="out of memory on cpu with one prompt of 9 tokens"):
        generator.generate([short], (), 4)
    assert not caplog.text  # it was not tried again in a smaller way


def test_caches_stay_within_their_budget(llama: Base):
    per_token = 4 * 2 * 2 * 16 * 4  # layers, keys and values, heads, head size, bytes
    generator = Generator(llama, kv_gib=100 * per_token / 2**30)
    prompts = some_ids(16, 40, 41, 42)
    replies = generator.generate(prompts, (), 8)  # two fit at a time, one finished one beside them does not
    assert [reply.ids for reply in replies] == [reference(llama, prompt, 8) for prompt in prompts]
    assert generator._kept.nbytes() <= 100 * per_token


def test_a_cache_dropped_while_a_prompt_waits_is_not_counted(llama: Base):
    one, other = some_ids(18, 20, 9)
    generator, steps = Generator(llama, max_batch=1), threading.Semaphore(0)
    reply = generator.generate([one], (), 4)[0]
    with llama.lock:  # both are there before the first step
        running = generator.submit(other, Sampling(max_new_tokens=3000), on_token=lambda _: steps.release())
        waiting = generator.submit([*one, *reply.ids, 5], Sampling(max_new_tokens=2))
    for _ in range(3):
        assert steps.acquire(timeout=60)
    generator.forget()
    running.cancel()
    assert waiting.result(60).cached_tokens == 0


def test_the_lock_keeps_generation_out(llama: Base):
    generator = Generator(llama)
    with llama.lock:
        handle = generator.submit([1, 2, 3], Sampling(max_new_tokens=2))
        with pytest.raises(TimeoutError):
            handle.result(0.3)
        with llama.lock:  # the same thread may take it again
            pass
    assert len(handle.result(60).ids) == 2
