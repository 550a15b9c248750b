#!/usr/bin/env bash
# Make qsmr.tar.gz (code) and qsmr_data.tar.gz (data), which the image of a snapshot unpacks in /qsmr.
# The same files give the same bytes: names are sorted; owner, modes and times are fixed.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")"

pack() { # DIRECTORY ARCHIVE
  (cd "$1" && tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX --exclude=__pycache__ -- *) | gzip -n >"$2.part"
  mv "$2.part" "$2"
}

pack code qsmr.tar.gz
pack data qsmr_data.tar.gz
