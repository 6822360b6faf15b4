#!/usr/bin/env bash
# A TPU slice of several hosts without a cluster: NAME=… ZONE=… NFS=SERVER:/SHARE WHEEL=… bash tpu_vm.sh
# The share (Filestore, say) holds data/mine.jsonl and checkpoints/, and takes the run.
set -euo pipefail
: "${NAME:?name of the TPU}" "${ZONE:?its zone}" "${NFS:?SERVER:/SHARE}" "${WHEEL:?paligemma_jax-….whl}"
TYPE=${TYPE:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
CONFIG=${CONFIG:-forkme:mode=full}

tpu() { gcloud compute tpus tpu-vm "$@" --zone "$ZONE"; }
everywhere() { tpu ssh "$NAME" --worker=all --command "$1"; }

tpu describe "$NAME" > /dev/null 2>&1 \
  || tpu create "$NAME" --accelerator-type "$TYPE" --version "$VERSION"
tpu scp "$WHEEL" "$NAME:" --worker=all

everywhere "set -e
  sudo apt-get install -y -qq nfs-common > /dev/null
  sudo mkdir -p /shared
  mountpoint -q /shared || sudo mount $NFS /shared
  python3 -m venv \$HOME/venv
  \$HOME/venv/bin/pip install -q \"\$HOME/$(basename "$WHEEL")[tpu]\""

# --distributed: JAX asks the TPU's metadata for the coordinator and this host's place.
everywhere "export PATH=\$HOME/venv/bin:\$PATH PGJAX_CHECKPOINTS=/shared/checkpoints
  pgjax train --distributed --config $CONFIG --workdir /shared/runs/mine \
    --config.input.data.fname=/shared/data/mine.jsonl \
    --config.input.batch_size=256 --config.checkpoint_every=200"

# When it is done: gcloud compute tpus tpu-vm delete NAME --zone ZONE
