"""Fixtures of the job service, for all contract tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.job_service import Api, JobService, PostgreSql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    server = PostgreSql()
    yield server
    server.stop()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def shared_job_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JobService]:
    """One job service on each database, for all tests that keep to a project of their own."""
    is_sqlite = request.param == "sqlite"
    url = None if is_sqlite else request.getfixturevalue("postgresql").new_database_url()
    service = JobService(tmp_path_factory.mktemp("job_service"), url)
    yield service
    service.kill()


@pytest.fixture
def job_service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobService]:
    """A job service of the test's own, on SQLite or what an indirect parametrization names."""
    is_sqlite = getattr(request, "param", "sqlite") == "sqlite"
    url = None if is_sqlite else request.getfixturevalue("postgresql").new_database_url()
    service = JobService(tmp_path, url)
    yield service
    service.kill()


@pytest.fixture(scope="session")
def api(shared_job_service: JobService) -> Api:
    """Administrator's session with the shared job service."""
    return shared_job_service.login()


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """Name of a project that no other test uses; nothing is made."""
    return f"test{next(_project_numbers)}"


_project_numbers = itertools.count(1)
