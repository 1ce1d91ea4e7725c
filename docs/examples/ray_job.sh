#!/bin/bash
# Ray: the list goes to a running cluster, which shares it out and brings up machines as its autoscaler allows.
# On every node: the package (pip install -e ".[ray]", or an image that has it) and a folder that all of them see.
#
#     RAY_ADDRESS=http://head:8265 bash docs/examples/ray_job.sh /shared/jobs.jsonl /shared/night
set -euo pipefail

list=${1:?"usage: bash docs/examples/ray_job.sh /shared/jobs.jsonl /shared/night"}
output=${2:?"the second word is a folder that all nodes see"}

ray job submit --address "${RAY_ADDRESS:-http://127.0.0.1:8265}" --submission-id "cinemagraphs-$(date +%s)" \
  --runtime-env-json '{"env_vars": {"OMP_NUM_THREADS": "1"}}' --no-wait -- \
  python -m text2cinemagraph.demo.batch "$list" --output "$output" --engine ray --address auto --threads 1
