"""Certificates: made, fit for browsers, renewed in time, reloaded when they change."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.errors import ConfigError
from gateway.runtime import certs
from tests.runtime.conftest import settings_in

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def test_the_leaf_is_what_browsers_pin_by_hash(tmp_path: Path) -> None:
    made = certs.ensure_own(tmp_path, "192.0.2.7", NOW)
    leaf, ca = x509.load_pem_x509_certificates(made.cert_pem)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=14)
    assert set(made.names) == {"localhost", "127.0.0.1", "::1", "192.0.2.7"}
    leaf.verify_directly_issued_by(ca)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    for name in (certs.CA_KEY, certs.LEAF_KEY):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_what_is_there_is_used_again(tmp_path: Path) -> None:
    assert certs.ensure_own(tmp_path, "127.0.0.1", NOW) == certs.ensure_own(tmp_path, "127.0.0.1", NOW)


@pytest.mark.parametrize("damage", ["leaf.pem", "leaf.key", "ca.pem", "ca.key"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    (tmp_path / damage).write_text("damaged")
    renewed = certs.ensure_own(tmp_path, "127.0.0.1", NOW, renew=True)
    leaf, ca = x509.load_pem_x509_certificates(renewed.cert_pem)
    leaf.verify_directly_issued_by(ca)


def test_another_listen_address_gets_another_leaf_of_the_same_ca(tmp_path: Path) -> None:
    first = certs.ensure_own(tmp_path, "127.0.0.1", NOW)
    ca = (tmp_path / certs.CA_CERT).read_bytes()
    second = certs.ensure_own(tmp_path, "192.0.2.7", NOW)
    assert first.sha256 != second.sha256
    assert (tmp_path / certs.CA_CERT).read_bytes() == ca


def test_the_leaf_is_renewed_before_it_runs_out_and_without_a_restart(tmp_path: Path) -> None:
    clock, heard = Clock(), []
    held = certs.Certificates(settings_in(tmp_path), clock)
    held.on_change = heard.append
    first = held.current.sha256
    clock.now = NOW + timedelta(days=9)
    assert not held.refresh()
    clock.now = NOW + timedelta(days=11)
    assert held.refresh()
    assert held.current.sha256 != first
    assert [c.sha256 for c in heard] == [held.current.sha256]
    assert held.current.not_after > clock.now + timedelta(days=12)


@pytest.mark.parametrize(
    "ahead", [timedelta(minutes=7), timedelta(hours=1), timedelta(days=5), timedelta(days=400)]
)
def test_what_was_made_while_the_clock_was_ahead_is_made_again_without_a_restart(
    tmp_path: Path, ahead: timedelta
) -> None:
    clock, heard = Clock(), []
    clock.now = NOW + ahead
    held = certs.Certificates(settings_in(tmp_path), clock)
    held.on_change = heard.append
    before = (tmp_path / "certs" / "ca.pem").read_bytes()
    clock.now = NOW
    assert held.refresh()
    assert heard == [held.current]
    assert held.current.not_before <= NOW < held.current.not_after
    chain = x509.load_pem_x509_certificates(held.current.cert_pem)
    assert all(each.not_valid_before_utc <= NOW for each in chain)
    chain[0].verify_directly_issued_by(chain[1])
    assert ((tmp_path / "certs" / "ca.pem").read_bytes() == before) == (ahead < certs.CA_BEGUN)
    assert not held.refresh()


def test_the_users_own_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    own = tmp_path / "own"
    first = certs.ensure_own(own, "127.0.0.1", NOW)
    pair = {"cert": str(own / certs.LEAF_CERT), "key": str(own / certs.LEAF_KEY)}
    held = certs.Certificates(settings_in(tmp_path, **pair), Clock())
    assert (held.current.sha256, held.refresh()) == (first.sha256, False)
    second = certs.ensure_own(own, "127.0.0.1", NOW, renew=True)
    assert held.refresh()
    assert held.current.sha256 == second.sha256 != first.sha256


def test_unusable_new_files_leave_the_old_certificate_in_use(tmp_path: Path) -> None:
    own = tmp_path / "own"
    first = certs.ensure_own(own, "127.0.0.1", NOW)
    pair = {"cert": str(own / certs.LEAF_CERT), "key": str(own / certs.LEAF_KEY)}
    held = certs.Certificates(settings_in(tmp_path, **pair), Clock())
    (own / certs.LEAF_CERT).write_text("half a copy")
    with pytest.raises(ConfigError, match="--cert/--key"):
        held.refresh()
    assert held.current.sha256 == first.sha256
    assert isinstance(held.context, ssl.SSLContext)
