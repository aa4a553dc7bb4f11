"""For every test: how long clients wait, over which stores modules that say ``OVER = EACH_STORE`` run, what tests of kits show."""

from tests.kits.abilities import pytest_configure, pytest_runtest_logreport, pytest_sessionfinish
from tests.patient_clients import patient_clients, patient_connects
from tests.store.standin.fixtures import backend, each_store, pytest_generate_tests

__all__ = [
    "backend",
    "each_store",
    "patient_clients",
    "patient_connects",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
]
