"""For every test: how long clients wait, over which stores modules that say ``OVER = EACH_STORE`` run, what tests of kits show."""

import signal

from hypothesis import settings

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

settings.register_profile("patient", deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile(
        "patient"
    )  # a machine that stands still for a moment fails no example: speed is for benchmarks

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job; children would inherit it, deaf to Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
