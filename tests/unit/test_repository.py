"""The project keeps its own promises: specs equal defaults, settings are used, modules are documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
MODULES = sorted((REPOSITORY / "library").glob("*.py"))

# What may hold a secret. Ansible shows a role's whole specification, defaults included, when an argument is wrong.
SECRET = re.compile(r"\bqsmr_config }}|_password|odin_secret")


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_defaults_and_argument_specs_agree(role):
    """Every default is specified with the same value; every optional argument that is specified has its default."""
    defaults = load(role / "defaults/main.yml")
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    options: dict = {}
    for entry_point in specs.values():
        assert entry_point["short_description"]
        options |= entry_point.get("options", {})
    for name, option in options.items():
        assert name.startswith(f"{role.name}_")
        assert option.get("description") and option.get("type"), name
        assert option.get("required") or name in defaults or "default" not in option, f"{name} has no default"
    assert set(defaults) <= set(options)
    open_ones = {name: value for name, value in defaults.items() if not SECRET.search(str(value))}
    assert {name: option["default"] for name, option in options.items() if "default" in option} == open_ones


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_reads_no_private_variable_of_another(role):
    others = [other.name for other in ROLES if other != role]
    for path in role.rglob("*.yml"):
        foreign = [name for name in re.findall(r"\b__(\w+)", path.read_text()) if not name.startswith(f"{role.name}_")]
        assert not [name for name in foreign if name.startswith(tuple(f"{other}_" for other in others))], path


def test_every_setting_is_used():
    settings = load(REPOSITORY / "playbooks/group_vars/all.yml")
    folders = ("playbooks", "roles", "inventory", "plugins", "bin")
    text = "\n".join(
        path.read_text()
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and path.suffix in {".yml", ".j2", ".py", ".sh"}
    )
    unused = [name for name in settings if len(re.findall(rf"\b{name}\b", text)) < 2]
    assert not unused


def test_no_setting_is_used_that_is_not_declared():
    declared = set(load(REPOSITORY / "playbooks/group_vars/all.yml"))
    modules = {path.stem for path in MODULES} | {"qsmr_story", "qsmr_progress", "qsmr_summary", "qsmr_exit_code"}
    for folder in ("playbooks", "roles", "inventory"):
        for path in (REPOSITORY / folder).rglob("*.yml"):
            used = set(re.findall(r"(?<![\w/.-])qsmr_[a-z_]+\b(?!:\s*$)", path.read_text()))
            assert used - declared - modules <= {"qsmr_snapshot_", "qsmr_data"}, path


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_module_declares_its_promises(module):
    """Check and diff mode are promised, each with the reason where it is partial."""
    text = module.read_text()
    documentation = yaml.safe_load(re.search(r'DOCUMENTATION = r?"""(.*?)"""', text, re.S)[1])
    assert {"check_mode", "diff_mode"} <= set(documentation["attributes"])
    for name, attribute in documentation["attributes"].items():
        assert attribute["support"] in {"full", "partial", "none", "N/A"}, name
        assert attribute["support"] != "partial" or attribute.get("description"), name
    for section in ("EXAMPLES", "RETURN"):
        assert yaml.safe_load(re.search(rf'{section} = r?"""(.*?)"""', text, re.S)[1])
