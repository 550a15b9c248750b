"""What the users' settings may be: each one's type, range and choices, and which of them a host may have for itself.

Their defaults and meanings stand in ``playbooks/group_vars/all.yml``; the tests see that both have the same names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from .errors import QsmrError
from .hostfit import Limits, checked_job_timeout, worker_count
from .names import check_project_name, is_plain
from .scanids import freq_modes_of
from .settings import KEYS
from .stages import batch_sizes

Check = Callable[[object], object]
"""Raises ValueError with what the value has to be, or QsmrError with the whole line, for a value that will not do."""

# What Ansible takes for yes and no.
FLAGS = {"yes", "on", "true", "y", "t", "1", "1.0", "no", "off", "false", "n", "f", "0", "0.0"}


@dataclass(frozen=True)
class Setting:
    """``per_host``: hosts may differ in it. ``secret``: its value is shown nowhere."""

    check: Check
    per_host: bool = False
    secret: bool = False


def _text(value: object) -> str:
    """A text, which may have been written as a number or a date in YAML."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | date):
        raise ValueError('give a text; "" is none')
    return str(value)


def _any_text(value: object) -> None:
    _text(value)


def _texts(value: object) -> None:
    """A list, or a text with commas in it."""
    if not isinstance(value, list):
        if isinstance(value, Mapping):
            raise ValueError("give a list")
        _text(value)
        return
    for item in value:
        _text(item)


def _flag(value: object) -> None:
    if not isinstance(value, bool) and _text(value).lower() not in FLAGS:
        raise ValueError("give true or false")


def _one_of(*choices: str) -> Check:
    def check(value: object) -> None:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"give {', '.join(choices[:-1])} or {choices[-1]}")

    return check


def _whole(least: int) -> Check:
    def check(value: object) -> None:
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)) or int(str(value)) < least:
            raise ValueError(f"give a whole number, {least} or more")

    return check


def _number(least: float, most: float | None = None) -> Check:
    words = f"give a number from {least:g} to {most:g}" if most else f"give a number, {least:g} or more"

    def check(value: object) -> None:
        plain = re.fullmatch(r"[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?", str(value).strip())
        if isinstance(value, bool) or not plain or not least <= float(str(value)) <= (1e12 if most is None else most):
            raise ValueError(words)

    return check


def _or_empty(check: Check) -> Check:
    return lambda value: None if value == "" else check(value)


def _by(parse: Callable[[str], object]) -> Check:
    """What ``parse`` takes, which has words of its own for anything else."""

    def check(value: object) -> None:
        parse(_text(value))

    return check


def _release(value: object) -> None:
    if not is_plain(_text(value)):
        raise ValueError('give a snapshot id, or "before"')


def _config(value: object) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"give some of {', '.join(KEYS)} with their values")
    if unknown := sorted(str(key) for key in value if key not in KEYS):
        raise ValueError(f"{unknown[0]} is none of {', '.join(KEYS)}")


def _day(value: object) -> None:
    try:
        date.fromisoformat(_text(value))
    except ValueError:
        raise ValueError("give a day as YYYY-MM-DD") from None


def _deadline(value: object) -> None:
    if text := _text(value):
        from .watch import parse_deadline  # here, since it brings the libraries for the services, which takes a while

        parse_deadline(text, datetime.now(UTC))


SETTINGS: Mapping[str, Setting] = {
    "qsmr_project": Setting(_or_empty(_by(check_project_name))),
    "qsmr_odin_project": Setting(_or_empty(_by(lambda text: check_project_name(text, "Odin project")))),
    "qsmr_freq_mode": Setting(_or_empty(_by(freq_modes_of))),
    "qsmr_jobs_file": Setting(_any_text),
    "qsmr_scans_from": Setting(_one_of("file", "list", "period", "verification", "production")),
    "qsmr_scans": Setting(_texts),
    "qsmr_first_day": Setting(_or_empty(_day)),
    "qsmr_last_day": Setting(_or_empty(_day)),
    "qsmr_skip": Setting(_whole(0)),
    "qsmr_check_scans": Setting(_flag),
    "qsmr_config_file": Setting(_any_text),
    "qsmr_config": Setting(_config, secret=True),
    "qsmr_ca_file": Setting(_any_text),
    "qsmr_target_version": Setting(_one_of("v4", "v5")),
    "qsmr_on_conflict": Setting(_one_of("fail", "keep", "strict")),
    "qsmr_target_cipher": Setting(_one_of("ecb", "eax")),
    "qsmr_reprocess": Setting(_flag),
    "qsmr_max_attempts": Setting(_whole(1)),
    "qsmr_stale_minutes": Setting(_or_empty(_number(0))),
    "qsmr_dead_workers": Setting(_texts),
    "qsmr_watch_share": Setting(_number(0, 1)),
    "qsmr_watch_deadline": Setting(_deadline),
    "qsmr_max_failed_share": Setting(_number(0, 1)),
    "qsmr_code_dir": Setting(_any_text),
    "qsmr_build_command": Setting(_any_text),
    "qsmr_qsmr_config": Setting(_any_text),
    "qsmr_invemode": Setting(_any_text),
    "qsmr_snapshot_dir": Setting(_any_text),
    "qsmr_snapshot": Setting(_any_text),
    "qsmr_signing_key": Setting(_any_text),
    "qsmr_trusted_keys": Setting(_texts),
    "qsmr_base_image_source": Setting(_one_of("bootstrap", "registry", "archive")),
    "qsmr_base_image": Setting(_any_text),
    "qsmr_registry_username": Setting(_any_text),
    "qsmr_registry_password": Setting(_any_text, secret=True),
    "qsmr_host_dir": Setting(_any_text, per_host=True),
    "qsmr_push_mode": Setting(_one_of("auto", "direct", "relay", "registry")),
    "qsmr_push_registry": Setting(_any_text),
    "qsmr_push_bandwidth": Setting(_number(0)),
    "qsmr_push_hosts_at_once": Setting(_whole(0)),
    "qsmr_push_disk_share": Setting(_number(0, 1)),
    "qsmr_workers_per_host": Setting(_by(lambda text: worker_count(text, 1, 10**9)), per_host=True),
    "qsmr_worker_cpus": Setting(_by(lambda text: Limits.checked(text, "")), per_host=True),
    "qsmr_worker_memory": Setting(_by(lambda text: Limits.checked("", text)), per_host=True),
    "qsmr_job_timeout": Setting(_by(checked_job_timeout), per_host=True),
    "qsmr_rollout_batches": Setting(batch_sizes),
    "qsmr_healthy_deadline": Setting(_whole(1), per_host=True),
    "qsmr_min_healthy_time": Setting(_whole(0), per_host=True),
    "qsmr_canary_jobs": Setting(_whole(0)),
    "qsmr_canary_deadline": Setting(_whole(1)),
    "qsmr_max_failed_hosts": Setting(_whole(0)),
    "qsmr_on_failure": Setting(_one_of("revert_all", "keep")),
    "qsmr_skip_unfit": Setting(_flag),
    "qsmr_release": Setting(_release),
    "qsmr_break_lock": Setting(_flag),
    "qsmr_drain_timeout": Setting(_whole(0), per_host=True),
    "qsmr_remove": Setting(_flag),
    "qsmr_keep_releases": Setting(_whole(1), per_host=True),
    "qsmr_log_lines": Setting(_whole(0)),
    "qsmr_compare_with": Setting(_or_empty(_by(check_project_name))),
    "qsmr_state_dir": Setting(_any_text),
    "qsmr_report": Setting(_flag),
    "qsmr_output": Setting(_one_of("text", "json")),
    "qsmr_output_file": Setting(_any_text),
}


def fault_of(name: str, value: object) -> str:
    """What is wrong with the value of a setting, in a line with what to do; empty if nothing is."""
    setting = SETTINGS[name]
    shown = "" if setting.secret else f' "{value}"'
    try:
        setting.check(value)
    except ValueError as error:
        return f"{name} cannot be{shown}: {error}"
    except QsmrError as error:
        return str(error) if name in str(error) else f"{name} cannot be{shown}: {error}"
    return ""


def unknown(name: str, others: Iterable[str] = ()) -> str:
    """Why a variable of this name is taken for a setting that there is not, in a line; empty if it may be there.

    The prefix ``qsmr_`` is the settings' own. Other names are only suspected where they are nearly a setting's.
    """
    if name in SETTINGS or name in others:
        return ""
    plain = name.lower().replace("-", "_")
    near = difflib.get_close_matches(plain, SETTINGS, 1, 0.75 if plain.startswith("qsmr") else 0.9)
    if near:
        return f"{name} is no setting: is {near[0]} meant?"
    return f"{name} is no setting: docs/settings.md has all of them" if plain.startswith("qsmr_") else ""
