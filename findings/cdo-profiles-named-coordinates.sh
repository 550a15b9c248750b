#!/usr/bin/env bash
# CDO 2.1.1 (Debian 12's package cdo): a file of profiles after the CF conventions (dimensions scan and level; latitude and
# longitude once for each scan). timmean ends with 0, and its output lacks every variable whose attribute "coordinates"
# names latitude and longitude, as the conventions ask; only "skipped variable" on stderr tells. The same variable with
# coordinates="time altitude" is averaged. One would expect the mean of all variables, or an exit code that tells.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir -p debs/partial root
apt-get -qq -y -o APT::Sandbox::User=root -o Dir::Cache::archives="$work/debs" --download-only --no-install-recommends \
  install cdo=2.1.1-1+deb12u1 >/dev/null
for package in debs/*.deb; do dpkg --extract "$package" root; done
libraries=$(find "$work/root/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
python3 -m venv python
python/bin/pip -q --disable-pip-version-check install netCDF4==1.7.4 numpy==2.3.5 2>/dev/null

cat >make.py <<'PYTHON'
import netCDF4

UNITS = {"time": "days since 1858-11-17", "latitude": "degrees_north", "longitude": "degrees_east", "altitude": "m"}
with netCDF4.Dataset("profiles.nc", "w") as file:
    file.setncatts({"Conventions": "CF-1.11", "featureType": "profile"})
    file.createDimension("scan", None)
    file.createDimension("level", 3)
    for name, units in UNITS.items():
        dimensions = ("scan", "level") if name == "altitude" else ("scan",)
        variable = file.createVariable(name, "f8", dimensions)
        variable.setncatts({"units": units, "standard_name": name})
        variable[0:2] = [[1, 2, 3], [1, 2, 3]] if name == "altitude" else [51000, 51001]
    for name, coordinates in (("vmr", "time latitude longitude altitude"), ("other", "time altitude")):
        variable = file.createVariable(name, "f4", ("scan", "level"))
        variable.setncatts({"units": "1", "coordinates": coordinates})
        variable[0:2] = [[1, 2, 3], [3, 4, 5]]
PYTHON
python/bin/python make.py
LD_LIBRARY_PATH=$libraries root/usr/bin/cdo -V 2>&1 | head -n 1
LD_LIBRARY_PATH=$libraries root/usr/bin/cdo -s timmean profiles.nc mean.nc 2>said
echo "exit 0; $(grep -o 'skipped variable.*' said)"
python/bin/python - <<'PYTHON'
import netCDF4

with netCDF4.Dataset("mean.nc") as file:
    print("mean.nc has", *file.variables)
    assert "vmr" not in file.variables
    assert file["other"][:].tolist() == [[2.0, 3.0, 4.0]]
PYTHON
