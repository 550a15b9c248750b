"""What keeps a run from doing what it was asked for, found before it begins: hosts, limits, tags, settings.

Ansible itself counts a play without hosts, and a variable that nobody reads, as well done.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .fleetsettings import SETTINGS, fault_of, unknown

FLEET = ("control", "services", "workers")
"""The groups that the project's inventories have."""

# Where the settings have their defaults.
_OURS = "playbooks/group_vars/all.yml"
_MEANT = {
    "control": "where this playbook runs: name the machine that you type on there",
    "services": "where this playbook runs a job service and an Odin stand-in: a lab that has the real ones needs none",
    "workers": "the hosts that this playbook is for: name them there",
}


@dataclass(frozen=True)
class Hosts:
    """An inventory. ``match`` gives the hosts of a pattern, of the whole inventory or, if that is asked for, within
    the limit."""

    sources: str
    groups: Collection[str]
    match: Callable[[str, bool], Sequence[str]]
    limit: Sequence[str] = ()


@dataclass(frozen=True)
class Given:
    """A variable as somebody set it: its value as it is used, how it was written, where, and whether it is ours."""

    value: Any
    written: Any
    place: str
    ours: bool = False


@dataclass
class Settings:
    """What all variables are. ``hosts``: of each host of the fleet. ``others``: all there are beside them, by name with
    their places. ``weak``: names and values that the inventory sets for some hosts where our own defaults may win."""

    hosts: Mapping[str, Mapping[str, Given]]
    others: Mapping[str, str] = field(default_factory=dict)
    weak: Sequence[tuple[str, Given, Collection[str]]] = ()


def host_faults(patterns: Iterable[str], hosts: Hosts) -> list[str]:
    """Why plays of these host patterns would be left out, and what of the limit is no host's name."""
    found = []
    for word in hosts.limit:
        plain = word.lstrip("!&")
        if plain and not hosts.match(plain, False):
            found.append(
                f"--limit names {plain}, which the inventory {hosts.sources} does not have{_near(plain, hosts)}"
            )
    left_out = []
    for pattern in dict.fromkeys(patterns):
        if pattern in FLEET and pattern not in hosts.groups:
            near = _near(pattern, hosts)
            found.append(f"The inventory {hosts.sources} has no group {pattern}{near}, {_MEANT[pattern]}")
        elif not hosts.match(pattern, False):
            meant = _MEANT.get(pattern, "which this playbook is for")
            found.append(f"The inventory {hosts.sources} has no hosts in {pattern}, {meant}")
        elif hosts.limit and not hosts.match(pattern, True):
            left_out.append(pattern)
    if left_out and not found:
        also = ",".join([*left_out, *hosts.limit])
        found.append(
            f"--limit {','.join(hosts.limit)} leaves out all of {' and '.join(left_out)}, which this playbook needs: "
            f"say --limit '{also}'"
        )
    return found


def _near(word: str, hosts: Hosts) -> str:
    near = difflib.get_close_matches(word, [*hosts.groups, *hosts.match("all", False)], 1)
    return f" (but {near[0]})" if near else ""


def file_faults(files: Mapping[str, str], groups: Collection[str]) -> list[str]:
    """Files of a group's variables that nobody reads: ``files`` are their paths by the group that each is named after.

    Other names are another inventory's, or of no concern to us.
    """
    found = []
    for name, path in files.items():
        near = difflib.get_close_matches(name.lower(), (*FLEET, "fleet"), 1, 0.8)
        if near and name not in groups:
            meant = "" if near[0] == name else f": is {near[0]} meant?"
            found.append(f"{path} is read for no host, since the inventory has no group {name}{meant}")
    return found


def option_faults(tags: Collection[str], skipped: Collection[str], known: Collection[str], start_at: str) -> list[str]:
    """Which of Ansible's options would leave tasks out that others need. ``known`` are the playbook's own tags."""
    found = []
    if set(tags) - {"all"}:
        found.append(f"--tags {','.join(sorted(tags))} would leave out what the rest needs: a playbook runs as a whole")
    if odd := sorted(set(skipped) - set(known)):
        these = f"it has {', '.join(sorted(known))}" if known else "a playbook runs as a whole"
        found.append(f"--skip-tags {','.join(odd)} is nothing that this playbook can leave out: {these}")
    if start_at:
        found.append(
            "--start-at-task would leave out what the rest needs: run it whole, it does only what is left to do"
        )
    return found


def setting_faults(settings: Settings) -> list[str]:
    """Names that are no settings, values that none can have, and settings in places where they do not count."""
    found: dict[str, list[str]] = {}
    for name, place in settings.others.items():
        if line := unknown(name):
            found.setdefault(f"{place}: {line}", [])
    for host, given in settings.hosts.items():
        for name, setting in given.items():
            if not setting.ours and (line := fault_of(name, setting.value)):
                found.setdefault(f"{setting.place}: {line}" if setting.place else line, []).append(host)
    missing = [name for name in SETTINGS if not all(name in given for given in settings.hosts.values())]
    if missing:
        found[
            f"{missing[0]} has no value: this run does not read {_OURS}; start the playbooks where "
            "they are, with Ansible's own order of variables"
        ] = []
    else:
        found |= dict.fromkeys(_lost(settings), []) | dict.fromkeys(_differing(settings), [])
    return list(found)


def _lost(settings: Settings) -> list[str]:
    """Settings that no host of theirs has. Ansible has our defaults win over what stands in an inventory's own file for
    a group, and in its group_vars for all."""
    return [
        f"{weak.place}: {name} does not count here, where {_OURS} wins: set it in group_vars/fleet.yml "
        "beside the inventory, for the group fleet"
        for name, weak, hosts in settings.weak
        if name in SETTINGS and hosts and not any(settings.hosts[host][name].written == weak.written for host in hosts)
    ]


def _differing(settings: Settings) -> list[str]:
    """Settings of the whole fleet that hosts differ in: which value would count is chance."""
    found = []
    for name, setting in SETTINGS.items():
        if setting.per_host:
            continue
        by_value: list[tuple[Given, list[str]]] = []
        for host, given in settings.hosts.items():
            for same, hosts in by_value:
                if same.written == given[name].written:
                    hosts.append(host)
                    break
            else:
                by_value.append((given[name], [host]))
        if len(by_value) > 1:
            odd, hosts = min(by_value, key=lambda group: (group[0].ours, len(group[1])))
            place = f"{odd.place}: " if odd.place else ""
            found.append(
                f"{place}{name} counts for the whole fleet, and {', '.join(hosts)} would have another value than the "
                "others: set it in group_vars/fleet.yml beside the inventory, for the group fleet"
            )
    return found
