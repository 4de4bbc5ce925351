#!/usr/bin/env bash
# Mistral-7B on one GPU, from nothing to a report; docs/gpu-box.md tells what each line does and what it takes.
# Every step skips what is done, so an interrupted run goes on when it is started again.
#
#   examples/mistral-7b/run.sh [OUT] [PRESET]
set -euo pipefail
out=${1:-gpu-out} preset=${2:-mistral-7b}
mkdir -p "$out"

posix-sdc generate --n 2000 --seed 0 --out "$out/worlds/train"
posix-sdc generate --n 128 --seed 0 --split holdout --out "$out/worlds/holdout"
posix-sdc gate --scenarios "$out/worlds/train"
posix-sdc gate --scenarios "$out/worlds/holdout"
posix-sdc rollout --scenarios "$out/worlds/train" --out "$out/sessions"

resume=()
[ ! -e "$out/adapter.checkpoint" ] || resume=(--resume)
[ -e "$out/adapter" ] || sekft-train --config "$preset" --data "$out/sessions" --out "$out/adapter" "${resume[@]}"

base=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["config"]["base"])' "$out/adapter/training.json")
sekft-eval --base "$base" --load-4bit --adapter "$out/adapter" --scenarios "$out/worlds/holdout" --baselines --out "$out/eval"
