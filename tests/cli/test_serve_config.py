"""Settings: where a value comes from, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return parser.parse_args(arguments)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('port = 1000\nring_s = 10\nlog_level = "debug"\n')
    environ = {"MVGATEWAY_PORT": "2000", "MVGATEWAY_RING_S": "20", "HOME": "/nowhere"}
    settings = config.load(parsed("--config", str(file), "--port", "3000"), environ)
    assert (settings.port, settings.ring_s, settings.log_level, settings.linger_ms) == (
        3000,
        20,
        "debug",
        5000,
    )


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("port = 1000\n")
    assert config.load(parsed(), {"MVGATEWAY_CONFIG": str(file)}).port == 1000


def test_the_default_store_is_in_the_users_data_folder() -> None:
    assert config.load(None, {"XDG_DATA_HOME": "/data"}).store == "/data/mvgateway/store"


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("prot = 1000\n")
    with pytest.raises(ConfigError, match="'prot'; did you mean port"):
        config.load(parsed("--config", str(file)), {})


def test_an_unknown_variable_names_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="MVGATEWAY_PROT; did you mean MVGATEWAY_PORT"):
        config.load(None, {"MVGATEWAY_PROT": "1"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "65536"], "--port: 65536 is outside 0 to 65535"),
        (["--port", "many"], "--port: 'many' is not a whole number"),
        (["--retry", "maybe"], "--retry: 'maybe' is none of auto, on, off"),
        (["--cert", "a.pem"], "--cert and --key belong together"),
        (["--plain", "0.0.0.0:7080"], "--plain 0.0.0.0:7080: clear text is served on loopback only"),
        (["--udp", "192.0.2.1:4434"], "--udp 192.0.2.1:4434"),
        (["--udp", "4434x"], "--udp: '4434x' is not ADDRESS:PORT"),
        (["--host", "0.0.0.0"], "--insecure-public"),
        (["--config", "/nowhere/at/all.toml"], "--config /nowhere/at/all.toml: No such file"),
    ],
)
def test_a_bad_value_is_refused_by_its_flag(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(parsed(*arguments), {})
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("text", "said"), [("port = 1.5", "not a whole number"), ("store = 3", "not text"), ("x", "not TOML")]
)
def test_a_bad_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        config.load(parsed("--config", str(file)), {})


def test_no_plain_closes_the_plain_door() -> None:
    assert config.load(parsed("--no-plain"), {}).plain == ""


def test_beyond_loopback_needs_saying_so() -> None:
    assert config.load(parsed("--host", "0.0.0.0", "--insecure-public"), {}).host == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_saying(host: str) -> None:
    assert config.load(parsed("--host", host), {}).host == host


def test_every_setting_stands_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "CONFIG.md").read_text()
    missing = [s.name for s in config.SETTINGS if f"`{s.name}`" not in text]
    assert not missing
