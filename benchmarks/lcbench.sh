#!/usr/bin/env bash
# make bench-search: our search on searchbench's public tasks, then the table beside the peers.
set -euo pipefail
given=$1 folder=$1 noise=$2
shift 2
[ -f "$folder/searchbench/core.py" ] || folder=$folder/..
if [ ! -f "$folder/searchbench/core.py" ]; then
    echo "SEARCHBENCH needs the folder that holds searchbench/, found none in $given" >&2
    exit 2
fi
peers=$folder/searchbench/results
[ "$noise" = 0 ] || peers=$folder/searchbench/results_noise1
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
export PYTHONPATH=$folder:$PWD OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
"$BIN/python" -m searchbench run --method benchmarks.lcbench:make_tuner --label caviar \
    --results "$results" --noise "$noise" "$@"
"$BIN/python" -m searchbench compare --results "$results,$peers" --paired caviar
