#!/bin/bash
# sbatch cluster/slurm.sh: a Ray cluster over the nodes of one Slurm job, and a search on it.
# A requeued or resubmitted job of the same name goes on with its run.
#SBATCH --job-name=siamtune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=siamtune-%j.log
# --exclusive is not for speed: symmetric-run refuses a node with another Ray on it, and at its end
# stops every Ray of yours there.
set -euo pipefail

# What you may want to change. All folders must be seen by all nodes.
shared=${SIAMTUNE_SHARED:-$SLURM_SUBMIT_DIR}
# shellcheck source=/dev/null
source "${SIAMTUNE_VENV:-$shared/.venv}/bin/activate"
output=$shared/runs
run=$SLURM_JOB_NAME

nodes=$SLURM_JOB_NUM_NODES
gpus=${SLURM_GPUS_ON_NODE:-0}

# Gloo and NCCL take the network interface of the host's name. Where that is the loopback, or a slow
# network beside a fast one, workers of one trial fail with "connection refused" or crawl: name the
# interface (`ip -brief address` lists them) when you submit, e.g. NETWORK_INTERFACE=ib0.
if [[ -n ${NETWORK_INTERFACE:-} ]]; then
  export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE
  head_ip=$(ip -4 -o address show dev "$NETWORK_INTERFACE" | awk '{sub("/.*", "", $4); print $4; exit}')
else
  head_ip=$(hostname -I | awk '{print $1}')
fi
# This script runs on the first node, which becomes the head. Its name may mean the loopback there,
# so the address is a number; the port is the job's own, away from those that Ray gives to workers.
address=$head_ip:$((20000 + SLURM_JOB_ID % 10000))

# One token for this job alone, in a file that only you can read, gone with the job.
token_folder=$(umask 077 && mkdir -p "$shared/.siamtune" && echo "$shared/.siamtune")
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=$token_folder/token-$SLURM_JOB_ID
(umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# Nodes that load Python from a network disk need longer than Ray's 30 s.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
export RAY_USAGE_STATS_ENABLED=0

if ((gpus > 0)); then gpus_per_worker=1; else gpus_per_worker=0; fi
if [[ -e $output/$run/run.json ]]; then
  command=(siamtune resume "$run")
else
  command=(siamtune search --space full --data demo --trials 64 --name "$run")
fi
command+=(--output "$output" --address "$address" --gpus-per-worker "$gpus_per_worker")

srun --nodes="$nodes" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  ray symmetric-run --address "$address" --min-nodes "$nodes" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$gpus" -- \
  "${command[@]}"
