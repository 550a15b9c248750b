"""The fault suites that need a fleet share the integration tests' kind."""

from integration.conftest import fleet  # noqa: F401 a fixture is found by its name
