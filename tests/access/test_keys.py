"""Key files: what a gateway takes, and how it says no."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.cli import main
from gateway.runtime.access.jwks import BadKey, load_keys
from gateway.runtime.access.signing import SigningKey
from tests.patience import HANG_S

from .conftest import Maker


def refused(path: Path) -> str:
    with pytest.raises(BadKey) as caught:
        load_keys(path)
    return caught.value.message


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_folder_holds_the_public_halves_of_all_keys(maker: Maker) -> None:
    maker.another("second", "ES256")
    keys = load_keys(maker.folder)
    assert {kid: key.alg for kid, key in keys.items()} == {"first": "EdDSA", "second": "ES256"}
    assert set(load_keys(maker.folder / "second.public.json")) == {"second"}


def test_a_private_key_that_others_can_read_stops_the_start(maker: Maker) -> None:
    (maker.folder / "first.private.json").chmod(0o644)
    assert "chmod 600" in refused(maker.folder)


def test_a_private_key_is_no_part_of_a_set(maker: Maker) -> None:
    private = maker.folder / "first.private.json"
    assert "public keys only" in refused(private)
    private.rename(maker.folder / "first.json")
    assert "public keys only" in refused(maker.folder)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"keys": []}, "no key in it"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JWK set"),
        ({"keys": 1}, "not a JWK set"),
        ({"keys": [1]}, "not a JWK set"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}, "no kid"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "a"}]}, "no point"),
        ({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "a"}]}, "no point"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a"}]}, "no point"),
        ("x" * 300_000, "at most"),
    ],
)
def test_what_is_no_set_of_keys_is_told_with_the_way_out(tmp_path: Path, value: Any, says: str) -> None:
    assert says in refused(write(tmp_path / "set.json", value))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (RSAKey.generate_key(2048), "RSA"),
        (ECKey.generate_key("P-384"), "P-384"),
        (OKPKey.generate_key("X25519"), "X25519"),
        (OKPKey.generate_key("Ed448"), "Ed448"),
    ],
    ids=["RSA", "P-384", "X25519", "Ed448"],
)
def test_a_key_of_the_wrong_kind_is_named(tmp_path: Path, key: Any, says: str) -> None:
    text = refused(write(tmp_path / "set.json", {"keys": [{**key.as_dict(private=False), "kid": "a"}]}))
    assert says in text
    assert "token keygen" in text


def test_a_shared_secret_is_no_public_key(tmp_path: Path) -> None:
    jwk = {**OctKey.generate_key(256).as_dict(private=True), "kid": "a"}
    assert "shared secret" in refused(write(tmp_path / "set.json", {"keys": [jwk]}))


@pytest.mark.parametrize("change", [{"alg": "ES256"}, {"use": "enc"}, {"key_ops": ["sign"]}])
def test_a_key_that_is_for_something_else_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    jwk = {**SigningKey.generate("EdDSA", "a").public_jwk(), **change}
    assert "not for verifying" in refused(write(tmp_path / "set.json", {"keys": [jwk]}))


def test_two_keys_of_one_name_are_refused_and_one_key_twice_is_not(maker: Maker) -> None:
    public = maker.folder / "first.public.json"
    write(maker.folder / "again.json", public.read_text())
    assert set(load_keys(maker.folder)) == {"first"}
    write(maker.folder / "again.json", SigningKey.generate("EdDSA", "first").public_jwk())
    assert "two keys" in refused(maker.folder)


def test_an_empty_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    assert "no key in it" in refused(tmp_path)
    assert "token keygen" in refused(tmp_path / "nothing.json")


def test_a_scope_that_cannot_be_understood_stops_the_start(tmp_path: Path) -> None:
    jwk = {**SigningKey.generate("EdDSA", "a").public_jwk(), "mv": {"subs": ["*"]}}
    assert "'subs'" in refused(write(tmp_path / "set.json", {"keys": [jwk]}))


# -- the command line ---------------------------------------------------------------------------


def test_keys_and_tokens_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "keys"
    assert main(["token", "keygen", "--out", str(folder), "--kid", "studio"]) == 0
    private = folder / "studio.private.json"
    assert private.stat().st_mode & 0o777 == 0o600
    assert json.loads(private.read_text())["d"] not in capsys.readouterr().out
    sign = [
        "token",
        "sign",
        "--key",
        str(private),
        "--sub",
        "plaza-*,arena",
        "--pub",
        "plaza-7",
        "--for",
        "1h",
    ]
    assert main([*sign, "--subject", "server-2", "--owner", "server-2", "--delay-s", "30"]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["token", "show", token, "--auth-keys", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "good now" in shown
    assert token.split(".")[2] not in shown
    claims = json.loads(shown.rpartition("}")[0] + "}")["claims"]
    assert claims["mv"]["sub"] == ["plaza-*", "arena"]
    assert claims["sub"] == "server-2"
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--for", "25h"], "--for 25h: a token lives for 24 hours"),
        (["--for", "soon"], "--for"),
        (["--sub", "a*b"], "no pattern"),
        (["--kbps", "0"], "kbps"),
        (["--subject", "x" * 200], "--subject"),
        (["--sub", ",".join(f"world-{n:060}" for n in range(60))], "characters"),
    ],
)
def test_signing_refuses_what_no_gateway_would_take(
    maker: Maker, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert main(["token", "sign", "--key", str(maker.folder / "first.private.json"), *flags]) != 0
    told = capsys.readouterr()
    assert says in told.err
    assert not told.out


def test_a_private_key_that_others_can_read_signs_nothing(
    maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    private = maker.folder / "first.private.json"
    private.chmod(0o640)
    assert main(["token", "sign", "--key", str(private), "--sub", "a"]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_a_pair_is_not_written_over(maker: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    before = (maker.folder / "first.private.json").read_text()
    assert main(["token", "keygen", "--out", str(maker.folder), "--kid", "first"]) == 2
    assert (maker.folder / "first.private.json").read_text() == before


def test_a_key_signs_within_its_own_scope_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "keys"
    assert main(["token", "keygen", "--out", str(folder), "--kid", "s", "--sub", "plaza-*"]) == 0
    key = str(folder / "s.private.json")
    assert main(["token", "sign", "--key", key, "--sub", "plaza-1"]) == 0
    assert main(["token", "sign", "--key", key, "--sub", "arena"]) == 1
    assert "mv.sub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "first.private.json").chmod(0o644), "chmod 600"),
        (lambda folder: (folder / "first.public.json").write_text('{"keys": []}'), "no key in it"),
        (lambda folder: (folder / "first.public.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "first.private.json").rename(folder / "all.json"), "public keys only"),
    ],
    ids=["readable by others", "empty", "no JSON", "private"],
)
def test_a_gateway_does_not_start_on_keys_that_cannot_be_right(
    maker: Maker, tmp_path: Path, spoil: Any, says: str
) -> None:
    spoil(maker.folder)
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--no-plain", "--host", "0.0.0.0"]
    command += [
        "--store",
        str(tmp_path / "s"),
        "--certs",
        str(tmp_path / "c"),
        "--auth-keys",
        str(maker.folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
