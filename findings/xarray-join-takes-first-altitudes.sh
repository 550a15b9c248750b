#!/usr/bin/env bash
# xarray 2026.9.0: open_mfdataset(combine="nested", concat_dim="scan") of two files of profiles whose altitudes, a
# coordinate of the levels alone, differ by 1.5 km. With the present defaults altitude gets the dimension scan, and each
# profile keeps its own. With use_new_combine_kwarg_defaults, which is to become the rule, the joined data set has the
# first file's altitudes for all scans, without an error or a warning. One would expect both altitudes, or an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv python
python/bin/pip -q --disable-pip-version-check install xarray==2026.9.0 netCDF4==1.7.4 dask==2026.8.0 2>/dev/null

cat >join.py <<'PYTHON'
import warnings
import xarray

for name, altitude in (("a", [10000.0, 20000.0]), ("b", [11500.0, 21500.0])):
    vmr = (("scan", "level"), [[1e-6, 2e-6], [3e-6, 4e-6]])
    xarray.Dataset({"vmr": vmr}, coords={"altitude": ("level", altitude)}).to_netcdf(f"{name}.nc")
last = {}
for new in (False, True):
    with xarray.set_options(use_new_combine_kwarg_defaults=new), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with xarray.open_mfdataset(["a.nc", "b.nc"], combine="nested", concat_dim="scan") as joined:
            last[new] = joined.altitude.dims, joined.vmr.shape, joined.altitude.values.max().item(), len(said) if new else None
            print("new defaults:" if new else "present defaults:", *last[new])
assert last[False] == (("scan", "level"), (4, 2), 21500.0, None)
assert last[True] == (("level",), (4, 2), 20000.0, 0)
PYTHON
python/bin/python -c 'import xarray; print("xarray", xarray.__version__)'
python/bin/python join.py
