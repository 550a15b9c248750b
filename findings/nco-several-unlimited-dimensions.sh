#!/usr/bin/env bash
# NCO 5.1.4 (Debian 12's package nco): ncrcat joins two NetCDF-4 files that each have two unlimited dimensions,
# scan and level, as the CF conventions allow for profiles. It ends with 0 and prints nothing, and the joined
# file has no scans and no values at all. With scan alone unlimited all of them arrive.
# One would expect the right numbers, or an error that names the second dimension.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir -p debs/partial root
apt-get -qq -y -o APT::Sandbox::User=root -o Dir::Cache::archives="$work/debs" --download-only --no-install-recommends install nco=5.1.4-1+deb12u1 >/dev/null
for package in debs/*.deb; do dpkg --extract "$package" root; done
libraries=$(find "$work/root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
python3 -m venv python
python/bin/pip -q --disable-pip-version-check install netCDF4==1.7.4 numpy==2.3.5 2>/dev/null

cat >make.py <<'PYTHON'
import sys
import netCDF4
for unlimited in (("scan",), ("scan", "level")):
    for part in (1, 2):
        with netCDF4.Dataset(f"{len(unlimited)}-{part}.nc", "w") as file:
            file.createDimension("scan", None)
            file.createDimension("level", None if "level" in unlimited else 3)
            file.createVariable("vmr", "f4", ("scan", "level"), fill_value=-999.0)[0:2, 0:3] = [[part, 2, 3], [4, 5, 6]]
PYTHON
python/bin/python make.py

join() { LD_LIBRARY_PATH=$libraries root/usr/bin/ncrcat -O "$1-1.nc" "$1-2.nc" "$1.nc" >said 2>&1; }
count() {
  python/bin/python -c "import netCDF4; v = netCDF4.Dataset('$1.nc')['vmr'][:]; print(v.shape[0], 'scans,', v.count(), 'values')"
}
LD_LIBRARY_PATH=$libraries root/usr/bin/ncrcat --version 2>&1 | grep -o 'version 5[^ ]*' | head -n 1
for unlimited in 1 2; do
  [ "$(count "$unlimited-1")" = "2 scans, 6 values" ]
  join "$unlimited"
  echo "$unlimited unlimited: exit 0, $(wc -c <said) bytes of messages, $(count "$unlimited")"
done
[ "$(count 1)" = "4 scans, 12 values" ] && [ "$(count 2)" = "0 scans, 0 values" ]
