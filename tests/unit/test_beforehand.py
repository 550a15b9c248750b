"""What ends a run before it begins. Real Ansible, on inventories as users write them; no host is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from qsmr.fleetsettings import SETTINGS, fault_of, unknown

REPOSITORY = Path(__file__).parents[2]
PLAYBOOKS = sorted((REPOSITORY / "playbooks").glob("*.yml"))
ANSIBLE = str(Path(sys.executable).parent / "ansible-playbook")
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
CONTROL = {"hosts": {"localhost": LOCAL}}
WORKERS = {"hosts": {"h1": LOCAL, "h2": LOCAL}}
FLEET = {"control": CONTROL, "workers": WORKERS, "services": {"hosts": {}}}
FLEET["fleet"] = {"children": {"control": {}, "workers": {}, "services": {}}}


@pytest.fixture
def play(tmp_path):
    """Run a playbook on an inventory, with further files beside it; gives exit code and screen, lines unwrapped."""

    def run(playbook, *words, inventory=FLEET, files=None, env=None, cwd=REPOSITORY):
        for name, content in {"lab/hosts.yml": inventory, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(yaml.safe_dump(content))
        done = subprocess.run(
            [ANSIBLE, "-i", str(tmp_path / "lab/hosts.yml"), str(REPOSITORY / "playbooks" / playbook), *words],
            cwd=cwd, capture_output=True, text=True, check=False,
            env={"PATH": os.defpath, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", **(env or {})},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def refused(outcome, *words):
    """The run ended before its first play, as a failure, and its screen has these words."""
    code, screen = outcome
    assert code == 2, screen
    assert "PLAY [" not in screen
    assert "Traceback" not in screen
    for word in words:
        assert word in screen
    return screen


@pytest.mark.parametrize("playbook", ["workers", "stop", "rollback", "status", "site"])
def test_misspelt_group_is_named_with_where_to_look(play, playbook):
    inventory = {"control": CONTROL, "worker": WORKERS}
    refused(play(f"{playbook}.yml", inventory=inventory), "lab/hosts.yml has no group workers (but worker)")


@pytest.mark.parametrize(
    ("playbook", "inventory", "words"),
    [
        ("stop", {"ungrouped": WORKERS}, "has no group workers"),
        ("stop", {"control": CONTROL, "workers": {"hosts": {}}}, "has no hosts in workers"),
        ("stop", {"workers": {"children": {"lab": {}}}}, "has no hosts in workers"),
        ("jobs", {"workers": WORKERS}, "has no group control"),
        ("watch", {"control": None, "workers": WORKERS}, "has no hosts in control"),
        ("services", FLEET, "a lab that has the real ones needs none"),
        ("engine", {"workers": WORKERS}, "has no group control"),
    ],
)
def test_empty_group_is_named(play, playbook, inventory, words):
    refused(play(f"{playbook}.yml", inventory=inventory), words, "lab/hosts.yml")


def test_group_that_a_playbook_does_not_need_is_not_asked_for(play):
    _code, screen = play("provenance.yml", "-e", "scan=1", inventory={"control": CONTROL})
    assert "PLAY [Tell what made the level 2 of a scan]" in screen


@pytest.mark.parametrize(
    ("playbook", "limit", "say"),
    [
        ("site", "h1", "--limit 'control,h1'"),
        ("jobs", "h1", "--limit 'control,h1'"),
        ("status", "h1", "--limit 'control,h1'"),
        ("status", "control", "--limit 'workers,control'"),
        ("workers", "localhost", "--limit 'workers,localhost'"),
        ("status", "all,!control", "--limit 'control,all,!control'"),
    ],
)
def test_limit_that_leaves_out_a_play_is_refused_with_the_words_to_say(play, playbook, limit, say):
    refused(play(f"{playbook}.yml", "--limit", limit), say)


@pytest.mark.parametrize("limit", ["control,h1,h3", "control,h1,!h3"])
def test_limit_with_a_name_that_there_is_not_is_refused(play, limit):
    refused(play("status.yml", "--limit", limit), "which the inventory", "does not have")


def test_limit_that_has_all_it_needs_runs(play):
    code, screen = play("status.yml", "--limit", "control,h1", "-e", "qsmr_project=demo")
    assert "PLAY [Show where the project stands]" in screen
    assert "h2" not in screen
    assert code == 2  # there is no job service


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tags", "jobs"], "--tags jobs would leave out what the rest needs"),
        (["--skip-tags", "fetch"], "--skip-tags fetch is nothing that this playbook can leave out"),
        (["--start-at-task", "Jobs"], "--start-at-task would leave out"),
    ],
)
def test_a_part_of_a_playbook_is_refused(play, words, says):
    refused(play("jobs.yml", *words), says)


def test_tags_from_the_environment_count_too(play):
    refused(play("jobs.yml", env={"ANSIBLE_RUN_TAGS": "nothing"}), "--tags nothing")


def test_the_one_tag_that_works_is_taken_and_its_misspelling_named(play):
    extra = ["-e", "qsmr_project=a", "-e", "qsmr_compare_with=b"]
    _code, screen = play("compare.yml", "--skip-tags", "fetch", *extra)
    assert "PLAY [Compare the project with another one]" in screen
    refused(play("compare.yml", "--skip-tags", "fetsch", *extra), "it has fetch")


@pytest.mark.parametrize(
    ("files", "words", "says"),
    [
        ({}, ["-e", "qsmr_freqmode=2"], "-e: qsmr_freqmode is no setting: is qsmr_freq_mode meant?"),
        ({"vars.yml": {"qsmr_prject": "x"}}, ["-e", "@{tmp}/vars.yml"], "vars.yml:1: qsmr_prject is no setting"),
        ({"lab/group_vars/fleet.yml": {"qsmr_code": "/x"}}, [], "lab/group_vars/fleet.yml:1: qsmr_code is no setting"),
        ({"lab/host_vars/h2.yml": {"qsmr_worker_per_host": 4}}, [], "is qsmr_workers_per_host meant?"),
        ({"lab/group_vars/services.yml": {"qsmr_outptu": "x"}}, [], "is qsmr_output meant?"),
        ({"lab/group_vars/all.yml": {"qmsr_project": "demo"}}, [], "is qsmr_project meant?"),
        ({}, ["-e", "QSMR_PROJECT=demo"], "is qsmr_project meant?"),
    ],
)
def test_unknown_setting_is_named_with_its_place_and_the_nearest_one(play, tmp_path, files, words, says):
    refused(play("jobs.yml", *(word.replace("{tmp}", str(tmp_path)) for word in words), files=files), says)


def test_unknown_setting_of_one_host_in_the_inventory_itself_is_named(play):
    inventory = FLEET | {"workers": {"hosts": {"h1": LOCAL, "h2": LOCAL | {"qsmr_worker_per_host": 4}}}}
    refused(play("jobs.yml", inventory=inventory), "lab/hosts.yml:", "is qsmr_workers_per_host meant?")


def test_setting_where_our_defaults_would_win_is_refused(play):
    """Ansible has the variables beside a playbook win over those in an inventory's own file."""
    inventory = FLEET | {"workers": WORKERS | {"vars": {"qsmr_workers_per_host": 7}}}
    files = {"lab/group_vars/all.yml": {"qsmr_skip": 3}}
    screen = refused(play("jobs.yml", inventory=inventory, files=files), "qsmr_workers_per_host does not count here")
    assert "qsmr_skip does not count here" in screen
    assert "group_vars/fleet.yml" in screen


@pytest.mark.parametrize(
    ("name", "groups", "says"),
    [
        ("worker", ("control", "workers"), "has no group worker: is workers meant?"),
        ("fleet", ("control", "workers"), "has no group fleet"),
        ("Fleet", tuple(FLEET), "has no group Fleet: is fleet meant?"),
    ],
)
def test_file_of_variables_that_nobody_reads_is_named(play, name, groups, says):
    inventory = {group: FLEET[group] for group in groups}
    files = {f"lab/group_vars/{name}.yml": {"qsmr_project": "demo"}, "lab/group_vars/another_lab.yml": {"a": 1}}
    screen = refused(play("jobs.yml", inventory=inventory, files=files), f"lab/group_vars/{name}.yml is read for", says)
    assert "another_lab" not in screen


def test_setting_of_the_whole_fleet_on_one_host_is_refused_and_a_hosts_own_is_taken(play):
    own = {"lab/host_vars/h1.yml": {"qsmr_workers_per_host": "2 per core", "qsmr_host_dir": "/srv/q"}}
    _code, screen = play("jobs.yml", "-e", "qsmr_project=demo", files=own)
    assert "PLAY [Add the jobs]" in screen
    files = own | {"lab/host_vars/h2.yml": {"qsmr_project": "other"}}
    refused(play("jobs.yml", files=files), "lab/host_vars/h2.yml:1: qsmr_project counts for the whole fleet, and h2")


def test_every_wrong_value_is_told_at_once_and_no_secret(play):
    wrong = {
        "qsmr_rollout_batches": ["25 %"],
        "qsmr_report": "perhaps",
        "qsmr_config": {"ODIN_SECRT": "sesame"},
        "qsmr_registry_password": ["sesame"],
        "qsmr_on_failure": "revert",
        "qsmr_snapshot": True,
        "qsmr_project": "../etc",
    }
    screen = refused(play("status.yml", files={"lab/group_vars/fleet.yml": wrong}), "ODIN_SECRT", *wrong)
    assert screen.count("lab/group_vars/fleet.yml:") == len(wrong) == screen.count("Nothing was done.")
    assert "sesame" not in screen


def test_value_of_a_template_is_looked_at_as_the_run_would_have_it(play):
    files = {"lab/group_vars/fleet.yml": {"share": 3, "qsmr_watch_share": "{{ share / 2 }}"}}
    refused(play("watch.yml", files=files), 'qsmr_watch_share cannot be "1.5": give a number from 0 to 1')


def test_a_run_without_our_defaults_is_refused(play):
    refused(
        play("jobs.yml", env={"ANSIBLE_VARS_ENABLED": "ansible.builtin.nothing"}), "does not read playbooks/group_vars"
    )


def test_from_another_directory_it_runs_and_says_what_it_lacks(play, tmp_path):
    code, screen = play("logs.yml", "-e", "qsmr_project=demo", cwd=tmp_path)
    assert code == 0, screen
    assert "h1: no workers of project demo" in screen
    assert f"export ANSIBLE_CONFIG={REPOSITORY}/ansible.cfg" in screen


def test_inventory_of_several_files_is_refused_where_ansible_would_leave_some_out(play, tmp_path):
    """From another directory, or a clone that others can write to, Ansible does not read the project's ansible.cfg."""
    words = ["-i", str(tmp_path / "lab"), "-e", "qsmr_project=demo"]
    refused(
        play("logs.yml", *words, cwd=tmp_path), "that it cannot read", f"export ANSIBLE_CONFIG={REPOSITORY}/ansible.cfg"
    )
    code, screen = play("logs.yml", *words, cwd=tmp_path, env={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")})
    assert code == 0, screen
    assert "ANSIBLE_CONFIG" not in screen


@pytest.mark.parametrize("env", [{"ANSIBLE_STRATEGY": "free"}, {"ANSIBLE_ANY_ERRORS_FATAL": "true"}], ids=str)
def test_hosts_are_asked_alike_whatever_ansible_is_told_elsewhere(play, env):
    """With the strategy free one answer would be all that is known. A host that is down would end the run for all."""
    down = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = FLEET | {"workers": {"hosts": {"h1": LOCAL, "h2": down, "h3": LOCAL}}}
    code, screen = play("logs.yml", "-e", "qsmr_project=demo", inventory=inventory, env=env)
    assert code == 0, screen
    assert screen.rstrip().endswith("h1: no workers of project demo\nh2: unreachable\nh3: no workers of project demo")


def test_logs_of_no_host_are_a_failure(play):
    down = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory = FLEET | {"workers": {"hosts": {"h1": down, "h2": down}}}
    code, screen = play("logs.yml", "-e", "qsmr_project=demo", inventory=inventory)
    assert code == 2, screen
    assert "No host told its workers' lines: h1, h2" in screen
    assert screen.rstrip().endswith("h1: unreachable\nh2: unreachable")


def test_settings_are_those_that_have_defaults():
    defaults = yaml.safe_load((REPOSITORY / "playbooks/group_vars/all.yml").read_text())
    assert list(SETTINGS) == list(defaults)
    plain = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert not [line for name, value in plain.items() if (line := fault_of(name, value))]


def test_choices_are_those_of_the_roles():
    """What the roles say of a setting that they take is what is said of it beforehand."""
    seen = set()
    for path in (REPOSITORY / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            for option in entry.get("options", {}).values():
                name = str(option.get("default", "")).removeprefix("{{ ").removesuffix(" }}")
                if name in SETTINGS and "choices" in option:
                    seen.add(name)
                    assert not [choice for choice in option["choices"] if fault_of(name, choice)]
                    assert fault_of(name, "nothing of the kind")
    assert len(seen) > 5


NUMBERS = [name for name in SETTINGS if name.startswith(("qsmr_max_", "qsmr_canary", "qsmr_push_b", "qsmr_keep"))]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in NUMBERS for value in (True, -1, "many", [1], None, "", "nan", "1 2")],
        *[
            ("qsmr_rollout_batches", v)
            for v in (["25 %"], "0.25", 0.25, 0, [0], [], True, "some", "110%", [[1]], "1;2")
        ],
        *[("qsmr_remove", value) for value in ("maybe", 2, None, "", [True])],
        *[("qsmr_project", value) for value in (True, None, 7, "a-b", "projects", ["demo"])],
        *[("qsmr_freq_mode", value) for value in ("one", 0, 1.5, True, "1;2", [1, 2], 1000)],
        *[("qsmr_first_day", value) for value in ("yesterday", "2009-02-30", 20)],
        *[("qsmr_watch_deadline", value) for value in ("soon", True, "2 weeks")],
        *[("qsmr_workers_per_host", value) for value in (True, 1.5, "some", "2 per head", -1, None, 5000)],
        *[("qsmr_worker_memory", value) for value in ("4 GB", 0.5, "1m", True)],
        *[("qsmr_worker_cpus", value) for value in ("two", 0, True)],
        *[("qsmr_job_timeout", value) for value in ("1h", -1, 1.5, True, None, [60])],
        *[("qsmr_trusted_keys", value) for value in ({"a": 1}, None, True, [None])],
        *[("qsmr_release", value) for value in ("", "../x", True)],
        *[("qsmr_config", value) for value in ("x", [1], None)],
        *[("qsmr_code_dir", value) for value in (True, None, ["/x"], {"a": 1})],
    ],
)
def test_value_that_a_setting_cannot_have(name, value):
    line = fault_of(name, value)
    assert name in line
    assert "give" in line or "must" in line or "Project name" in line or ":" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("qsmr_rollout_batches", v) for v in (2, "2", "1,25%", '[1, "25%", "100%"]', ["50%"], [2, 1], "1, 100%")],
        *[("qsmr_remove", value) for value in (True, False, "yes", "False", 1, "0")],
        *[("qsmr_freq_mode", value) for value in (1, "2", "1,2", "", "1, 13")],
        *[("qsmr_workers_per_host", value) for value in (0, 4, "4", "2 per core", "1 per 4 GB")],
        *[("qsmr_worker_cpus", value) for value in ("", 2, 0.5, "1.25")],
        *[("qsmr_job_timeout", value) for value in ("", 0, 3600, "90")],
        *[("qsmr_watch_share", value) for value in (0, 1, "0.5", 0.25, ".5")],
        *[("qsmr_stale_minutes", value) for value in ("", 30, "1.5")],
        *[("qsmr_scans", value) for value in ([7123991206], ["1:2"], "1,2", [])],
        *[("qsmr_watch_deadline", value) for value in ("", "2h", "2026-11-24T18:00")],
        *[("qsmr_last_day", value) for value in ("", "2009-03-01")],
    ],
)
def test_value_that_a_setting_can_have(name, value):
    assert fault_of(name, value) == ""


@pytest.mark.parametrize(
    "name", ["ansible_user", "demo_name", "worker_count", "my_project", "project", "scan", "hostname"]
)
def test_other_peoples_variables_are_theirs(name):
    assert unknown(name) == ""


def test_every_play_has_hosts_that_are_known_and_does_not_depend_on_how_ansible_is_set_elsewhere():
    for path in PLAYBOOKS:
        for entry in yaml.safe_load(path.read_text()):
            hosts = entry.get("hosts", "control")
            if hosts == "workers" or "preflight_" in hosts:
                assert (entry["strategy"], entry["any_errors_fatal"]) == ("linear", False), path
            assert hosts in {"control", "workers", "services"} or "preflight_" in hosts or path.stem == "engine", path
