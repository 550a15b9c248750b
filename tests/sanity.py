#!/usr/bin/env python3
"""Run ansible-test sanity on the modules and plugins, as a collection qsmr.fleet that is gone afterwards.

usage: sanity.py [ARGUMENT OF ansible-test sanity ...]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PLUGINS = "ansible_collections.qsmr.fleet.plugins"
UTILS = f"{PLUGINS}.module_utils.qsmr"
# From the classic layout, where a project's own things have short names, to that of a collection.
RENAMED = [
    (r"^sys\.path\.append\(.*\n", ""),
    (r"^from qsmr\.fleetaction\b", f"from {PLUGINS}.plugin_utils.fleetaction"),
    (r"^from \.(?=\w)", f"from {UTILS}."),
    (r"^from (?:ansible\.module_utils\.)?qsmr\b", f"from {UTILS}"),
    (r"\bM\(qsmr_", "M(qsmr.fleet.qsmr_"),
    (r"^extends_documentation_fragment: .*", lambda line: re.sub(r"\bqsmr\b", "qsmr.fleet.qsmr", line[0])),
]
FOLDERS = {
    "library": "modules",
    **{f"plugins/{name}": name for name in ("action", "callback", "doc_fragments", "filter", "module_utils")},
}
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
GALAXY = {"namespace": "qsmr", "name": "fleet", "version": VERSION, "readme": "README.md", "authors": ["qsmr-fleet"]}
# ansible-test takes pip from a site of Ansible's own, unless this file is there. Python brings pip along.
PIP_BOOTSTRAP = "import ensurepip\nensurepip.bootstrap(default_pip=True)\n"


def make_collection(root: Path) -> None:
    """The collection qsmr.fleet at ``root``."""
    for source, target in FOLDERS.items():
        for path in sorted((REPOSITORY / source).rglob("*.py")):
            text = path.read_text()
            for pattern, replacement in RENAMED:
                text = re.sub(pattern, replacement, text, flags=re.M)
            copy = root / "plugins" / target / path.relative_to(REPOSITORY / source)
            if path.stem == "fleetaction":  # what plugins share and modules cannot has a place of its own
                copy = root / "plugins/plugin_utils" / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    subprocess.run([BIN / "ruff", "check", "--quiet", "--isolated", "--select=F401", "--fix", root], check=True)
    # The names are longer there: no line may be over 160 characters.
    subprocess.run([BIN / "ruff", "format", "--quiet", "--isolated", "--line-length=160", root], check=True)
    for name, content in {
        "galaxy.yml": GALAXY,
        "meta/runtime.yml": {"requires_ansible": ">=2.19.0"},
        # Those that run on hosts are tested with Python 3.9 elsewhere.
        "tests/config.yml": {"modules": {"python_requires": "controller"}},
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(yaml.safe_dump(content, explicit_start=True))
    shutil.copy(REPOSITORY / "README.md", root)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="qsmr-sanity-") as home:
        root = Path(home) / "ansible_collections/qsmr/fleet"
        make_collection(root)
        cache = Path(home) / ".ansible/test/cache"
        cache.mkdir(parents=True)
        (cache / "get_pip_24_2.py").write_text(PIP_BOOTSTRAP)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        command = [BIN / "ansible-test", "sanity", "--python", version, *arguments]
        return subprocess.run(command, cwd=root, env={**os.environ, "HOME": home}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
