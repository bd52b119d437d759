#!/bin/bash
# A sweep on nodes that Slurm gives: sbatch docker/slurm.sh SPEC. midre is installed in ~/midre/.venv, and ~/midre lies on a
# file system that all nodes share. A job that was requeued, or is submitted again, continues where it was.
#SBATCH --job-name=midre
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail
spec=${1:?usage: sbatch docker/slurm.sh SPEC}
shared=$HOME/midre
export PATH=$shared/.venv/bin:$PATH MIDRE_RUNS=$shared/runs

# A token of this job's own, which other users of the nodes cannot read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/.token-$SLURM_JOB_ID
(umask 077 && openssl rand -hex 32 > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# The same command on every node: Ray starts there, and midre on the head alone. Slurm's warning goes on to midre,
# which then stops as at the first Ctrl-C.
srun --kill-on-bad-exit ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  midre run "$spec" --address auto &
trap 'kill -TERM $!; wait $!' TERM
wait $!
