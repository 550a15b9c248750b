"""Project names: the former rule, the job service's limits, and names for Docker."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qsmr.errors import QsmrError
from qsmr.names import check_project_name, docker_name, homes_of, host_part, worker_name
from uworker.settings import worker_name as uworker_name


@pytest.mark.parametrize("name", ["a", "Demo2", "x" * 59, "Projects"])
def test_good_names_pass(name):
    check_project_name(name)


@pytest.mark.parametrize("name", ["", "2demo", "my-project", "é", "demoé", "de mo", "demo\n", "٧a"])
def test_bad_names_get_the_former_message(name):
    rule = "name must only contain ascii letters and digits and start with an ascii letter"
    with pytest.raises(QsmrError, match=f"^Project {rule}$"):
        check_project_name(name)
    with pytest.raises(QsmrError, match=f"^Odin project {rule}$"):
        check_project_name(name, "Odin project")


@pytest.mark.parametrize(("name", "says"), [("x" * 60, "has 60 characters"), ("projects", "route"), ("auth", "route")])
def test_names_that_the_job_service_cannot_keep_are_refused(name, says):
    with pytest.raises(QsmrError, match=says):
        check_project_name(name)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,58}", fullmatch=True))
def test_docker_takes_the_name_and_case_makes_a_difference(project):
    name = docker_name(project)
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[0-9a-f]{6})?", name)
    assert (name == docker_name(project.lower())) == (project == project.lower())


HOSTS = st.lists(st.text("ab_-.1é", min_size=1, max_size=70), min_size=1, max_size=5, unique=True)
# A busy machine is no reason to fail.
ANY_PACE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DIGITS = st.text("0123456789abcdef", min_size=12, max_size=12)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=20))
def test_hosts_name_workers_as_the_workers_name_themselves(hostname, host, container):
    """They run in an image that has nothing of this code."""
    assert worker_name(hostname, host, container) == uworker_name(hostname, host, container)


@ANY_PACE
@given(HOSTS, DIGITS)
def test_worker_is_of_one_host_whatever_the_hosts_are_called(hosts, own):
    """ "a" and "a_b", names that begin alike, names too long for the job service."""
    for host in hosts:
        name = worker_name(own, host_part(host))
        assert len(name) <= 64
        assert homes_of(name, hosts) == [host]


@ANY_PACE
@given(HOSTS, st.one_of(DIGITS, st.from_regex(r"uworker_[1-9][0-9]?", fullmatch=True)))
def test_worker_that_an_earlier_version_or_the_scripts_of_2016_named_is_recognised(hosts, own):
    """No other host is taken for its own, unless the names were cut and begin alike."""
    for host in hosts:
        name = worker_name("c0ffee", host, own)
        homes = homes_of(name, hosts)
        assert host in homes
        if len(f"UWorker_{host}_{own}") <= 64:
            assert homes == [host]
        assert {home[:45] for home in homes} == {host[:45]}


@pytest.mark.parametrize("name", ["UWorker_a_b_0123456789ab", "UWorker_a", "UWorker_a_", "somebody", "UWorker_ab_1"])
def test_strangers_are_of_no_host(name):
    assert homes_of(name, ["a", "b"]) == []
