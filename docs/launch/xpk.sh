#!/usr/bin/env bash
# TPUs of a GKE cluster, by xpk: CLUSTER=… IMAGE=… bash xpk.sh
# The cluster was made by `xpk cluster create`; a storage of that cluster is mounted at /shared.
set -euo pipefail
: "${CLUSTER:?name of the cluster}" "${IMAGE:?image made from Dockerfile with EXTRA=tpu}"
TPU=${TPU:-v5litepod-64}
CONFIG=${CONFIG:-forkme:mode=full}

xpk workload create \
  --cluster "$CLUSTER" \
  --workload "${WORKLOAD:-pgjax-mine}" \
  --tpu-type "$TPU" \
  --num-slices 1 \
  --docker-image "$IMAGE" \
  --env PGJAX_CHECKPOINTS=/shared/checkpoints \
  --command "pgjax train --distributed --config $CONFIG --workdir /shared/runs/mine \
    --config.input.data.fname=/shared/data/mine.jsonl \
    --config.input.batch_size=256 --config.checkpoint_every=200"
