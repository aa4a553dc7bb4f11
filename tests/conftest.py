"""For every test: which stores the modules that say ``OVER = EACH_STORE`` run over."""

from tests.store.standin.fixtures import backend, each_store, pytest_generate_tests

__all__ = ["backend", "each_store", "pytest_generate_tests"]
