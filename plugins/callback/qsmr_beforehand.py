# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""End a run before it begins where it could not do what it was asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: qsmr_beforehand
type: aggregate
short_description: Ends a run before its first play where it could not do what it was asked for
version_added: "0.1.0"
description:
  - Groups that are not there or empty, a C(--limit) that leaves out what a playbook needs, C(--tags), names that are no
    settings, and values that a setting cannot have. For Ansible all of these are well done with nothing done.
  - It looks at the inventory and the variables, and asks no host. Tasks could not, since a limit may leave them out.
author: qsmr-fleet developers (@qsmr-fleet)
"""

import sys
from pathlib import Path

from ansible import constants as C
from ansible import context
from ansible.playbook.block import Block
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible.vars.plugins import get_vars_from_inventory_sources

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

sys.path.append(str(Path(__file__).parents[1] / "module_utils"))

from qsmr.beforehand import (  # noqa: E402
    FLEET,
    Given,
    Hosts,
    Settings,
    file_faults,
    host_faults,
    option_faults,
    setting_faults,
)
from qsmr.fleetsettings import SETTINGS  # noqa: E402

# How ansible-playbook ends a run of which a host failed.
EXIT_CODE = 2
CONFIG = Path(__file__).resolve().parents[2] / "ansible.cfg"
DEFAULTS = str(CONFIG.with_name("playbooks") / "group_vars/all.yml")


class CallbackModule(CallbackBase):
    """Looks at the whole run once, before its first play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "qsmr_beforehand"

    def v2_playbook_on_start(self, playbook) -> None:
        plays = playbook.get_plays()
        look = Look(plays, playbook._basedir)
        faults = [*look.options(), *look.sources(), *look.hosts()] or look.settings()
        if faults:
            for fault in faults:
                self._display.error(f"Nothing was done. {fault}")
            # No Exception, so that it goes all the way.
            raise SystemExit(EXIT_CODE)
        if not (C.CONFIG_FILE and CONFIG.samefile(C.CONFIG_FILE)):
            self._display.warning(
                f"This run has not the SSH options and forks of the project: export ANSIBLE_CONFIG={CONFIG}"
            )


class Look:
    """A run's plays, with what Ansible knows about their hosts and variables."""

    def __init__(self, plays, basedir) -> None:
        self._plays = plays
        self._manager = plays[0].get_variable_manager()
        self._inventory = self._manager._inventory
        self._loader = plays[0].get_loader()
        self._loader.set_basedir(basedir)  # as each play has it, for the variables beside the playbooks

    def options(self) -> list[str]:
        asked = context.CLIARGS
        skipped = asked.get("skip_tags") or ()
        known = (
            {tag for play in self._plays for tag in _tags(play.compile())} - {"always", "never"} if skipped else set()
        )
        return option_faults(asked.get("tags") or (), skipped, known, asked.get("start_at_task") or "")

    def sources(self) -> list[str]:
        """Why Ansible may have left out a part of the inventory that it could not read."""
        sources = self._inventory._sources
        if C.config.get_config_value("INVENTORY_ANY_UNPARSED_IS_FAILED") or not (
            len(sources) > 1 or any(Path(source).is_dir() for source in sources)
        ):
            return []
        return [
            f"Ansible would leave out files of {', '.join(map(_short, sources))} that it cannot read, and all hosts in "
            f"them: export ANSIBLE_CONFIG={CONFIG}, or ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED=true"
        ]

    def hosts(self) -> list[str]:
        inventory = self._inventory
        sources = ", ".join(map(_short, inventory._sources))
        limit = [word for word in inventory._subset or [] if word]

        def match(pattern, limited):
            return [host.name for host in inventory.get_hosts(pattern, ignore_limits=not limited)]

        return host_faults(self._patterns(), Hosts(sources, list(inventory.groups), match, limit))

    def _patterns(self):
        """The host patterns of the plays, but not of those whose hosts the run itself finds."""
        variables = self._manager.get_vars()
        templar = Templar(loader=self._loader, variables=variables)
        for play in self._plays:
            for pattern in play.hosts if isinstance(play.hosts, list) else [play.hosts]:
                if "preflight_" not in str(pattern):
                    yield str(templar.template(pattern))

    def settings(self) -> list[str]:
        manager, inventory = self._manager, self._inventory
        others, hosts = {}, {}
        groups = list(inventory.groups.values())
        beside = get_vars_from_inventory_sources(self._loader, inventory._sources, groups, "task")
        for variables in [*(group.get_vars() for group in groups), beside, manager.extra_vars]:
            others |= {name: _place(name, value) for name, value in variables.items()}
        fleet = {host for name in FLEET if name in inventory.groups for host in inventory.groups[name].get_hosts()}
        for host in inventory.get_hosts(ignore_limits=True, ignore_restrictions=True):
            variables = manager.get_vars(host=host)
            others |= {name: _place(name, variables[name]) for name in variables.keys() - others.keys()}
            if host in fleet:
                hosts[host.name] = dict(self._given(variables, others))
        unread = file_faults(self._files(), list(inventory.groups))
        return unread + setting_faults(Settings(hosts, others, [*self._weak(hosts)]))

    def _files(self):
        """The files of groups' variables beside the inventory, by the name of the group."""
        places = [Path(source) for source in self._inventory._sources if Path(source).exists()]
        places = [place if place.is_dir() else place.parent for place in places]
        found = [path for place in places for path in sorted(place.glob("group_vars/[!.]*"))]
        return {path.stem if path.is_file() else path.name: _short(path) for path in found}

    def _weak(self, fleet):
        """What playbooks/group_vars/all.yml may win over: names, values, and for which hosts of the fleet."""
        for group in self._inventory.groups.values():
            variables = group.get_vars()
            if group.name == "all":
                variables |= get_vars_from_inventory_sources(self._loader, self._inventory._sources, [group], "task")
            members = [host.name for host in group.get_hosts() if host.name in fleet]
            for name, value in variables.items():
                yield name, Given(None, value, _place(name, value)), members

    def _given(self, variables, places):
        """A host's settings. What is a template is filled in; our own defaults are right as they are."""
        templar = None
        for name in [name for name in SETTINGS if name in variables]:
            written = variables[name]
            origin = Origin and Origin.get_tag(written)
            if origin and origin.path == DEFAULTS:
                yield name, Given(written, written, DEFAULTS, ours=True)
                continue
            value = written
            if not isinstance(written, bool | int | float) and not (isinstance(written, str) and "{" not in written):
                templar = templar or Templar(loader=self._loader, variables=variables)
                value = templar.template(written)
            # Ansible keeps no place with true, false and null; then it is that of the name.
            yield name, Given(value, written, _place(name, written) if origin else places[name])


def _tags(blocks):
    for part in blocks:
        yield from part.tags
        if isinstance(part, Block):
            yield from _tags([*part.block, *part.rescue, *part.always])


def _short(path) -> str:
    """A path as the user would write it here."""
    path = str(path)
    return str(Path(path).relative_to(Path.cwd())) if path.startswith(f"{Path.cwd()}/") else path


def _place(name, value) -> str:
    """File and line in which a variable is set; without a file it came from the command line."""
    origin = Origin and (Origin.get_tag(value) or Origin.get_tag(name))
    if not origin or not origin.path:
        return "-e"
    line = f":{origin.line_num}" if origin.line_num else ""
    return f"{_short(origin.path)}{line}"
