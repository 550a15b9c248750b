#!/usr/bin/env bash
# The former command of this name: build_snapshot.sh PROJECT CONFIG [JOBS_FILE FREQ_MODE]. See --help.
exec python3 "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/build_snapshot.py" "$@"
