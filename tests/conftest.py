"""For every test: which stores the modules that say ``OVER = EACH_STORE`` run over, and what tests of kits show."""

from tests.kits.abilities import pytest_configure, pytest_runtest_logreport, pytest_sessionfinish
from tests.store.standin.fixtures import backend, each_store, pytest_generate_tests

__all__ = [
    "backend",
    "each_store",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
]
