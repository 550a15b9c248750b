"""Project names: the former rule, the job service's limits, and names for Docker."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qsmr.errors import QsmrError
from qsmr.names import check_project_name, docker_name


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
