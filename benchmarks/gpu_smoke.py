"""First contact with a GPU: independent sections, each in a process of its own with a time limit.

    python benchmarks/gpu_smoke.py [OUT] [--tiny] [--sections env,exact]

One JSON line a section goes to stdout and to OUT/smoke.jsonl ({"section", "seconds", ...}; "failed" says why one has
no result); under ten minutes in all. A section that dies or hangs costs only itself. `--tiny` goes the whole way on a
CPU, with a base that is made in a second instead of a Mistral-7B with random weights in NF4.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
LIMITS = {
    "env": 25, "roof": 30, "attention": 40, "first": 45, "exact": 45, "base": 100, "train": 120, "cap24": 50,
    "decode": 80, "resident": 60,
}  # fmt: skip
TINY_FACTOR = 5  # a busy CPU


def device() -> str:
    """The device that sections run on."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def timed(work: Callable[[], object], times: int = 5) -> float:
    """Median seconds of a call, after one that warms up."""
    import torch

    seconds = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def env(_folder: Path, *, tiny: bool) -> dict[str, Any]:  # noqa: ARG001 - all sections are called alike
    """Versions, the card, and which of bitsandbytes' libraries was loaded."""
    import torch
    from bitsandbytes.cextension import lib

    from tiararodney.sekft.model.precision import choose_dtype
    from tiararodney.sekft.provenance import versions

    found: dict[str, Any] = {"versions": versions(), "cuda": torch.version.cuda, "bitsandbytes": type(lib).__name__}
    chosen = choose_dtype("auto", device())
    found |= {"dtype": chosen.name, "dtype_reason": chosen.reason}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found |= {"card": torch.cuda.get_device_name(), "free": free, "total": total}
    return found


def roof(_folder: Path, *, tiny: bool) -> dict[str, Any]:
    """What the device does at best: products, copies, dequantising."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    shrink = 64 if tiny else 1
    options = {"device": device(), "dtype": torch.bfloat16}
    x = torch.randn(8192 // shrink, 4096 // shrink, **options)
    weight = torch.randn(14336 // shrink, 4096 // shrink, **options)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return {
        "tflops": 2 * x.shape[0] * weight.numel() / timed(lambda: x @ weight.t()) / 1e12,
        "copy_gb_per_second": 2 * weight.numel() * 2 / timed(weight.clone) / 1e9,
        "dequantise_7b_ms": 6.98e9 / weight.numel() * 1e3 * timed(lambda: dequantize_4bit(packed, state)),
    }


def attention(_folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Each attention kernel: milliseconds, forward and backward, for nine sessions, or why it does not run."""
    import torch

    from tiararodney.sekft.sft.step.attention import KERNELS, usable_kernels

    lengths = (90,) * 3 if tiny else (900,) * 9
    found: dict[str, Any] = {}
    for heads, key_heads, size in ((32, 8, 128), (9, 3, 64)):
        for name in usable_kernels(device().split(":")[0], torch.bfloat16):
            tensors = [
                torch.randn(sum(lengths), n, size, device=device(), dtype=torch.bfloat16, requires_grad=True)
                for n in (heads, key_heads, key_heads)
            ]

            def work(name: str = name, tensors: list[Any] = tensors, size: int = size) -> None:
                torch.autograd.grad(KERNELS[name](*tensors, lengths, size**-0.5).sum(), tensors)

            try:
                found[f"{name} {heads}/{key_heads}/{size} ms"] = 1e3 * timed(work)
            except (RuntimeError, NotImplementedError, ImportError) as error:
                found[f"{name} {heads}/{key_heads}/{size}"] = str(error)[:160]
    return found


def small_model(dtype: Any, where: str, **lora: Any) -> Any:
    """A Mistral of three layers with a LoRA adapter that matters; the same weights wherever it lies."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = MistralForCausalLM(MistralConfig(num_hidden_layers=3, vocab_size=1024, sliding_window=None, **shape))
    config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM", **lora)
    tuned = get_peft_model(model.requires_grad_(requires_grad=False).to(dtype), config).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = 0.02 * torch.randn(parameter.shape)
    return tuned.get_base_model().to(where)


def some_row(count: int = 4, longest: int = 300) -> Any:
    """Sessions in the shape of shell sessions, in one row."""
    from train_sides import make_sessions

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.step.pack import pack_row

    return pack_row([Example(ids, labels) for ids, labels in make_sessions(count, longest)])


def gradients(model: Any, adapter: str, row: Any, *, recompute: bool = False) -> dict[str, Any]:
    """The gradients of a row's loss, on the CPU."""
    import torch

    from tiararodney.sekft.sft.step.forward import choose_route
    from tiararodney.sekft.sft.trainer import PackedModel

    packed = PackedModel(model, adapter, choose_route(model))
    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    grads = torch.autograd.grad(packed(row, recompute=recompute).total, list(named.values()), allow_unused=True)
    return {name: grad.float().cpu() for name, grad in zip(named, grads, strict=True) if grad is not None}


def off(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest relative difference of two sets of gradients."""
    return max(float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected)


def first(_folder: Path, *, tiny: bool) -> dict[str, Any]:
    """The process's first attention call lies under a checkpoint: the fused layers, and transformers' own."""
    import torch

    model = small_model(torch.bfloat16, device())
    found = {"fused": len(gradients(model, "default", some_row(), recompute=True))}
    own = small_model(torch.bfloat16, device(), use_dora=True)
    return found | {"transformers": len(gradients(own, "default", some_row(), recompute=True)), "tiny": tiny}


def exact(_folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Gradients against fp32 on the CPU, against themselves, and recomputed; the packing check on the device."""
    import torch

    from tiararodney.sekft.render import Example
    from tiararodney.sekft.sft.step.check import settle_route

    row, found = some_row(), {"tiny": tiny}
    right = gradients(small_model(torch.float32, "cpu"), "default", row)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = small_model(dtype, device())
        plain = gradients(model, "default", row)
        found[name] = {
            "off_from_cpu": off(plain, right),
            "off_from_itself": off(gradients(model, "default", row), plain),
            "off_recomputed": off(gradients(model, "default", row, recompute=True), plain),
        }
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        sessions = [Example(list(range(3, 60)), [-100] * 57), Example(list(range(90, 160)), [-100] * 70)]
        found[name]["route"] = settle_route(model, "default", weights, sessions).value
    return found


def load(folder: Path, *, tiny: bool, dequantised: bool = False) -> Any:
    """The base with random weights; made once."""
    from tiararodney.sekft.model import fourbit, load_base

    path = folder / "base"
    if not path.exists():
        command = [sys.executable, str(HERE / "random_base.py"), "tiny" if tiny else "mistral-7b", str(path)]
        subprocess.run(command, check=True, stdout=2)
    base = load_base(path, four_bit=True, dequantise=False)
    if dequantised:
        fourbit.dequantise(base.model, base.dtype)
    return base


def with_adapter(base: Any) -> Any:
    """Put a fresh adapter on, trainable; the fused layers take it by its name."""
    from peft import LoraConfig

    from tiararodney.sekft.model.adapters import add_adapter

    add_adapter(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"), "t")
    for name, weight in base.model.named_parameters():
        if ".t." in name:
            weight.data = weight.data.float()
            weight.requires_grad_(requires_grad=True)
    return base


def base(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Load in NF4, attach, switch and detach an adapter; the base must be the same bits afterwards."""
    from peft import LoraConfig

    from tiararodney.sekft.model import use_adapter
    from tiararodney.sekft.model.adapters import add_adapter, detach_adapter
    from tiararodney.sekft.resident.state import probe

    begin = time.perf_counter()
    loaded = load(folder, tiny=tiny)
    found: dict[str, Any] = {"load_seconds": time.perf_counter() - begin}
    before = probe(loaded)
    found["probe_stable"] = probe(loaded) == before
    begin = time.perf_counter()
    add_adapter(loaded, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"), "one")
    found["attach_seconds"] = time.perf_counter() - begin

    def switch() -> None:
        with use_adapter(loaded, "one"):
            pass

    found["switch_ms"] = 1e3 * timed(switch)
    detach_adapter(loaded, "one")
    return found | {"same_bits": probe(loaded) == before}


def train(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Tokens a second and memory of a micro-batch, in NF4 and dequantised, plain and recomputed."""
    found: dict[str, Any] = {}
    for dequantised in (True, False):
        loaded = with_adapter(load(folder, tiny=tiny, dequantised=dequantised))
        for count in (2,) if tiny else (2, 4, 9):
            row = some_row(count, 200 if tiny else 1200)
            for recompute in (False, True):
                name = f"{'bf16' if dequantised else 'nf4'} {row.tokens} {'recomputed' if recompute else 'plain'}"
                found[name] = measured(loaded.model, row, recompute=recompute)
    return found


def measured(model: Any, row: Any, *, recompute: bool) -> dict[str, Any]:
    """Speed and memory of a micro-batch."""
    import torch

    from tiararodney.sekft.sft.sizing import bytes_per_token
    from tiararodney.sekft.sft.step.forward import choose_route

    held = 0
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    try:
        seconds = timed(lambda: gradients(model, "t", row, recompute=recompute), 3)
    except torch.OutOfMemoryError:
        return {"tokens_per_second": None}
    found = {
        "tokens_per_second": row.tokens / seconds,
        "estimated_mb_per_token": bytes_per_token(model, choose_route(model), recompute=recompute) / 1e6,
    }
    if torch.cuda.is_available():
        found["mb_per_token"] = (torch.cuda.max_memory_allocated() - held) / row.tokens / 1e6
    return found


def cap24(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """A card that says it has 24 GB: the sizes that are chosen, and whether a row of them fits."""
    import torch

    from tiararodney.sekft.sft.sizing import choose_size
    from tiararodney.sekft.sft.step.forward import choose_route

    loaded, found = with_adapter(load(folder, tiny=tiny)), {}
    if torch.cuda.is_available():
        cap = int(23.5 * 2**30)
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap / torch.cuda.mem_get_info()[1]))
        torch.cuda.mem_get_info = lambda *_: (max(0, cap - torch.cuda.memory_reserved()), cap)
    route = choose_route(loaded.model)
    for longest in (1200, 4096):
        size = choose_size(loaded.model, route, longest=longest, asked=0, recompute="auto")
        row = some_row(1 if tiny else max(1, size.row_tokens // 1200), 200 if tiny else 1200)
        gradients(loaded.model, "t", row, recompute=size.recomputes(row.tokens))
        found[str(longest)] = {"row_tokens": size.row_tokens, "plain_tokens": size.plain_tokens, "ran": row.tokens}
    return found


def decode(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Seconds of a turn, and of the next one on the kept caches, for 1, 16 and 64 sessions."""
    import torch

    from tiararodney.sekft.model import Generator

    loaded, found = load(folder, tiny=tiny, dequantised=not tiny), {}
    drawn = torch.Generator().manual_seed(0)
    new = 4 if tiny else 16
    for count in (1, 4) if tiny else (1, 16, 64):
        prompts = [torch.randint(10, 250, (200 + 7 * i,), generator=drawn).tolist() for i in range(count)]
        generator = Generator(loaded)
        begin = time.perf_counter()
        replies = generator.generate(prompts, [], new)
        turn = time.perf_counter() - begin
        further = [prompt + reply.ids + [7] * 40 for prompt, reply in zip(prompts, replies, strict=True)]
        begin = time.perf_counter()
        generator.generate(further, [], new)
        found[str(count)] = {"turn_seconds": turn, "next_turn_seconds": time.perf_counter() - begin}
    return found


def resident(folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Train twice through `sekft-resident`, plain and recomputed; the base is checked after each job."""
    load(folder, tiny=tiny)
    lines = []
    for number in range(8):
        turns = [{"role": "user", "content": f"Directive {number}.\n$ "}]
        for command in ("ls", f"cat f{number}"):
            turns += [{"role": "assistant", "content": command}, {"role": "user", "content": "x\n$ "}]
        turns.append({"role": "assistant", "content": "exit"})
        lines.append(json.dumps({
            "id": f"t{number}", "scenario_id": f"s{number}", "version": 1, "archetype": "a", "terminal": "exit",
            "split": "train", "verified": True, "outcome": "success", "operator_model": "m", "keep": True, "steps": 3,
            "meta": {"clean": True}, "turns": turns,
        }))  # fmt: skip
    data = folder / "sessions.jsonl"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    how = f"train --data {data} --max-steps 2 --overwrite --out {folder}"
    text = f"{how}/a\n{how}/b --gradient-checkpointing always\nstatus\nquit\n"
    done = subprocess.run(
        [sys.executable, "-m", "tiararodney.sekft.resident.cli", "--base", str(folder / "base"), "--load-4bit"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {"returncode": done.returncode, "adapters": sorted(p.name for p in folder.glob("[ab]"))} | (
        {"failed": done.stderr[-700:]} if done.returncode else {}
    )


SECTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "env": env, "roof": roof, "attention": attention, "first": first, "exact": exact, "base": base, "train": train,
    "cap24": cap24, "decode": decode, "resident": resident,
}  # fmt: skip


def run(name: str, folder: Path, *, tiny: bool) -> dict[str, Any]:
    """Run a section in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, str(folder), "--section", name, *["--tiny"] * tiny]
    limit = LIMITS[name] * (TINY_FACTOR if tiny else 1)
    begin = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        result = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"failed": done.stderr[-700:]}
    except subprocess.TimeoutExpired:
        result = {"failed": f"over {limit} s"}
    except (ValueError, IndexError) as error:
        result = {"failed": f"no result: {error}"}
    return {"section": name, "seconds": round(time.monotonic() - begin, 1)} | result


def main() -> int:
    """Run the sections; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, help="folder for results and the base (default: a temporary one)")
    parser.add_argument("--tiny", action="store_true", help="small models, on a CPU")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which to run (default: %(default)s)")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if args.section:
        print(json.dumps(SECTIONS[args.section](args.out, tiny=args.tiny)))
        return 0
    folder = args.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    failed = False
    with (folder / "smoke.jsonl").open("w", encoding="utf-8") as file:
        for name in args.sections.split(","):
            result = run(name, folder, tiny=args.tiny)
            failed |= "failed" in result
            line = json.dumps(result)
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
