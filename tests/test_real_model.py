"""The whole way with the real base model: the demo's commands, small, and its replies found again with plain peft."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.bwrap]

# Nothing of sekft: what a user of transformers and peft would write.
PLAIN = """
import json, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
episodes = [e for e in map(json.loads, open("eval/episodes.jsonl")) if e["model"] == "adapter"]
tokenizer = AutoTokenizer.from_pretrained("adapter")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32), "adapter")
replies = 0
for session in episodes:
    for turn in session["generations"]:
        messages = session["messages"][: turn["turn"]]
        how = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": False}
        ids = tokenizer.apply_chat_template(messages, **how)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert out[0, ids.shape[1] :].tolist()[: len(turn["reply_ids"])] == turn["reply_ids"], (turn, out)
        replies += bool(turn["reply_ids"])
print(replies)
"""


def run(folder: Path, *command: str) -> str:
    """Run one of the installed scripts, or Python, in a folder and return what it printed."""
    program = sys.executable if command[0] == "python" else str(Path(sys.executable).parent / command[0])
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_real_model_goes_from_worlds_to_replies_that_plain_peft_gives_again(
    real_base: Path, tmp_path: Path
) -> None:
    for module in ("bitsandbytes", "peft"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")
    worlds, held_out = "worlds/train", "worlds/holdout"
    (tmp_path / "base").symlink_to(real_base)
    run(tmp_path, "posix-sdc", "generate", "--n", "9", "--seed", "7", "--course", "first", "--out", worlds)
    run(
        tmp_path,
        "posix-sdc",
        "generate",
        "--n",
        "2",
        "--seed",
        "7",
        "--course",
        "first",
        "--split",
        "holdout",
        "--out",
        held_out,
    )
    run(tmp_path, "posix-sdc", "rollout", "--scenarios", worlds, "--out", "trajectories", "--runtime", "bwrap")

    seen = json.loads(run(tmp_path, "sekft-train", "--inspect", "--json", "--data", "trajectories", "--base", "base"))
    assert (seen["read"], seen["refusals"], seen["findings"], seen["split_sessions"]["count"]) == (9, {}, [], 0)
    assert sum(seen["terminals"].values()) == seen["sessions"] == seen["examples"] == 9

    four_bit = ["--base", "base", "--load-4bit"]
    flags = ["--learning-rate", "1e-3", "--tokens-per-batch", "1024", "--max-steps", "3"]
    run(tmp_path, "sekft-train", "--data", "trajectories", *four_bit, "--out", "adapter", *flags)
    curve = [json.loads(line) for line in (tmp_path / "adapter/curve.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in curve] == [1, 2, 3]

    exact = ["--dtype", "float32", "--batch-size", "1", "--max-turns", "2", "--max-new-tokens", "24", "--no-base"]
    models = ["--base", "base", "--adapter", "adapter", "--runtime", "bwrap"]
    table = run(tmp_path, "sekft-eval", *models, "--scenarios", held_out, "--n", "2", "--out", "eval", *exact)
    assert "runtime bwrap" in table
    assert int(run(tmp_path, "python", "-c", PLAIN)) >= 2
