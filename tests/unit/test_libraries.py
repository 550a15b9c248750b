"""A control node without the libraries is told so, on one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
UTILS = sorted(path.stem for path in (REPOSITORY / "plugins/module_utils/qsmr").glob("[!_]*.py"))
THIRD_PARTY = "Cryptodome cryptography jinja2 markupsafe matplotlib netCDF4 numpy requests rich scipy urllib3 xarray"
IMPORT_WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({THIRD_PARTY.split()}));"


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where none of the libraries can be imported."""
    command = [sys.executable, "-c", IMPORT_WITHOUT + code]
    return subprocess.run(command, cwd=REPOSITORY / "plugins/module_utils", capture_output=True, text=True, check=False)


def test_everything_is_importable_without_them():
    names = [name for name in UTILS if name != "fleetaction"]  # Ansible's own half of it needs jinja2
    run = python(f"import importlib; [importlib.import_module('qsmr.' + name) for name in {names}]")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("module", "library"), [("jobapi", "requests"), ("target", "Cryptodome"), ("page", "jinja2")])
def test_what_is_missing_is_named_with_the_python_that_lacks_it(module, library):
    run = python(
        f"import qsmr.{module}; from qsmr.errors import QsmrError; from qsmr.libraries import check_libraries\n"
        "try: check_libraries()\nexcept QsmrError as error: print(error)"
    )
    assert run.stdout.startswith(f"Python libraries are missing from {sys.executable}: {library}"), run.stderr
    assert "make setup" in run.stdout
    assert run.stdout.count("\n") == 1


def test_nothing_is_missing_here():
    command = [sys.executable, "-c", "from qsmr import compare, transport, libraries; libraries.check_libraries()"]
    subprocess.run(command, cwd=REPOSITORY / "plugins/module_utils", check=True)
