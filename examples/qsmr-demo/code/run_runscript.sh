#!/bin/sh
# run_runscript.sh RUNTIME SOURCE_URL [TARGET_URL [USER] [PASSWORD]]
# RUNTIME, the directory of a compiled program's run time, is part of the interface; Python needs none.
here=$(dirname "$0")
if [ $# -lt 2 ]; then
  echo "usage: $0 RUNTIME SOURCE_URL [TARGET_URL [USER] [PASSWORD]]" >&2
  exit 2
fi
shift
# The matrices are small: more threads would only take the other workers' cores.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
PYTHONPATH="$here" exec python3 -B -m qsmr_demo "$@"
