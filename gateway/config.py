"""Every setting of the gateway, in one place. A room of its own: imports only errors and limits.

Where a value comes from, first match wins: a flag, the environment (``MVGATEWAY_`` and the
setting's name in capitals), the TOML file named by ``--config`` or ``MVGATEWAY_CONFIG`` (flat
keys), the default. An unknown key is an error that names the nearest known one.

:data:`SETTINGS` describes them; :func:`add_flags` makes command-line flags of them and
:func:`load` answers a validated :class:`Settings`. ``docs/CONFIG.md`` lists them all.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from gateway import limits
from gateway.errors import ConfigError

ENVIRONMENT_PREFIX = "MVGATEWAY_"
ENVIRONMENT_OTHERS = frozenset(
    {"MVGATEWAY_CONFIG", "MVGATEWAY_URL", "MVGATEWAY_CA", "MVGATEWAY_CERTIFICATE_SHA256", "MVGATEWAY_TOKEN"}
)
"""Variables of the same prefix that are no settings: the file, and whom the client verbs talk to and trust."""


PEERS_OF_THE_STORE = "store"
"""In ``--peers``: every gateway that a world's row names."""


def data_directory(environ: Mapping[str, str]) -> Path:
    """The folder for this user's data: ``$XDG_DATA_HOME/mvgateway`` or ``~/.local/share/mvgateway``."""
    base = environ.get("XDG_DATA_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".local/share"
    )
    return Path(base) / "mvgateway"


def _setting(
    default: object, text: str, *, low: int | None = None, high: int | None = None, **more: object
) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high, **more})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, validated. Times and sizes carry their unit in the name."""

    host: str = _setting("127.0.0.1", "address to listen on, UDP and TCP alike")
    port: int = _setting(
        4433, "port number for UDP (HTTP/3) and TCP (HTTP/2, HTTP/1.1); 0 picks one", low=0, high=65_535
    )
    plain: str = _setting(
        "127.0.0.1:7080", "loopback ADDRESS:PORT for clear-text HTTP/1.1 and h2c", off="--no-plain"
    )
    udp: str = _setting("", "loopback ADDRESS:PORT for plain UDP publishers; empty: none")
    store: str = _setting(
        "", "folder of the embedded store, or URL of an mvstore; empty: in the user's data folder"
    )
    store_admin: str = _setting(
        "", "URLs of the admin API of a remote mvstore, separated by commas, asked in turn"
    )
    store_ca: str = _setting("", "CA that a remote store's certificate is checked by, a PEM file")
    store_token_file: str = _setting(
        "", "file with the token for a store behind a gateway that asks for one; read anew before it ends"
    )
    node: str = _setting(
        "",
        "URL at which others reach this gateway; empty: https:// and where it listens (the machine's name for all addresses)",
    )
    peers: tuple[str, ...] = _setting(
        (),
        "URLs of the other gateways over the same store, as they name themselves: their worlds are served here, too; "
        "repeatable, or with commas; store: all that the store names, which is the default with --node or --upstream",
    )
    upstream: str = _setting(
        "",
        "URL of the gateway from which all worlds are followed whose home is not this one; empty: from their homes",
    )
    peer_ca: str = _setting(
        "", "CA that other gateways' certificates are checked by, a PEM file; empty: this gateway's own"
    )
    peer_token_file: str = _setting(
        "", "file with the token by which other gateways let this one in; read anew before it ends"
    )
    workers: str = _setting(
        "1",
        "processes that serve together on the same ports: a number, or auto for one a core",
        word="auto",
        most=limits.WORKERS_MAX,
    )
    server_id: str = _setting(
        "",
        "which gateway this is, in its QUIC connection IDs, for a UDP balancer in front of several: 2 or 4 hexadecimal digits",
    )
    server_id_rotation: int = _setting(
        0,
        "the balancer's configuration that --server-id is of (three bits of each connection ID)",
        low=0,
        high=6,
    )
    store_cache_mib: int = _setting(64, "page cache in front of a remote store", low=1, high=65_536)
    certs: str = _setting("certs", "folder for the certificates that the gateway makes for itself")
    cert: str = _setting("", "your own certificate chain, a PEM file (needs --key); reloaded when it changes")
    key: str = _setting("", "the private key of --cert, a PEM file")
    insecure_public: bool = _setting(False, "listen beyond loopback although nothing checks who connects")
    auth_keys: str = _setting(
        "",
        "public keys of those who sign tokens: a JWK set, a folder of them, or an https URL; with them every request "
        "needs a grant, and the gateway may listen anywhere",
    )
    auth_audience: str = _setting("", "what the audience (aud) of tokens must name; empty: none may be named")
    client_ca: str = _setting(
        "",
        "CA of client certificates that hold grants (SAN URI mvgateway:pub:plaza-*), a PEM file; on TCP only",
    )
    auth_ca: str = _setting("", "CA that the certificate of an --auth-keys URL is checked by, a PEM file")
    allow_origins: tuple[str, ...] = _setting(
        (),
        "web pages that may use the gateway besides its own and this machine's: SCHEME://HOST[:PORT], "
        "or * for all; repeatable, or with commas",
        flag="--allow-origin",
    )
    page_plane: str = _setting(
        "loopback",
        "where /stat, /batch/*, /time2version and /nslock/* answer: on loopback addresses, or everywhere",
        choices=("loopback", "public"),
    )
    admin_api: str = _setting(
        "", "loopback ADDRESS:PORT for the admin API of the gateway's own store; empty: none"
    )
    retry: str = _setting(
        "auto", "QUIC address validation: auto is on beyond loopback", choices=("auto", "on", "off")
    )
    quic_path: str = _setting(
        "fast",
        "has no effect any more: there is one way for packets, whichever is asked for",
        choices=("fast", "stock"),
    )
    json_logs: bool = _setting(False, "log one JSON object a line")
    log_level: str = _setting(
        "info", "how much to log", choices=("debug", "info", "warning", "error"), reload=True
    )
    access_log: bool = _setting(False, "log one line an HTTP request")
    max_message_bytes: int = _setting(
        limits.STREAM_MESSAGE_BYTES_MAX, "largest message on a stream", low=1_100, high=256 * limits.MIB
    )
    keyframe_interval_ms: int = _setting(
        1_000, "a keyframe is journalled at least this often", low=50, high=600_000, reload=True
    )
    ring_s: int = _setting(
        60, "how much history a world with retention 'ring' keeps", low=1, high=limits.RING_S_MAX, reload=True
    )
    retention: str = _setting(
        "ring", "what a new world keeps: ring, or record (all)", choices=("ring", "record"), reload=True
    )
    linger_ms: int = _setting(
        5_000, "how long a publisher that went away may come back unnoticed", low=0, high=600_000, reload=True
    )
    worlds_max: int = _setting(256, "worlds that are open at the same time", low=1, high=100_000, reload=True)
    worlds_per_address_max: int = _setting(
        limits.WORLDS_PER_ADDRESS_MAX,
        "worlds in which one address has sessions at the same time",
        low=1,
        high=100_000,
    )
    worlds_made_per_address_per_min: int = _setting(
        limits.WORLDS_MADE_PER_ADDRESS_PER_MIN,
        "worlds that one address makes (or opens to publish) a minute; a minute's worth at once",
        low=1,
        high=1_000_000,
    )
    readers_per_world_max: int = _setting(
        limits.READERS_PER_WORLD_MAX, "subscribers of one world", low=1, high=1_000_000
    )
    replays_max: int = _setting(
        limits.REPLAYS_MAX,
        "replay sessions in all; one address may have a quarter of them",
        low=1,
        high=100_000,
    )
    delayed_feeds_max: int = _setting(
        limits.DELAYED_FEEDS_MAX,
        "delayed views in all: readers of one world with the same delay share one",
        low=1,
        high=100_000,
    )
    delayed_feeds_per_world_max: int = _setting(
        limits.DELAYED_FEEDS_PER_WORLD_MAX, "delays with which one world is watched", low=1, high=100_000
    )
    marks_per_world_max: int = _setting(limits.MARKS_MAX, "marks of one world", low=1, high=1_000_000)
    entities_per_world_max: int = _setting(
        limits.ENTITIES_PER_WORLD_MAX,
        "entities of one world, and items of one inventory",
        low=1,
        high=10_000_000,
    )
    branches_per_world_max: int = _setting(
        limits.BRANCHES_PER_WORLD_MAX, "branches of one world that are there", low=1, high=100_000
    )
    watchers_per_world_max: int = _setting(
        limits.ENTITY_WATCHERS_MAX,
        "watchers of one world's entities, or of one inventory's items",
        low=1,
        high=1_000_000,
    )
    json_body_bytes_max: int = _setting(
        limits.JSON_BODY_BYTES_MAX, "a request's JSON body, batches apart", low=1_024, high=16 * limits.MIB
    )
    entity_bytes_max: int = _setting(
        limits.ENTITY_STATE_BYTES_MAX,
        "state of one entity or item",
        low=1,
        high=limits.ENTITY_STATE_BYTES_HIGH,
    )
    batch_bytes_max: int = _setting(
        limits.ENTITY_BATCH_BYTES_MAX,
        "a batch's body, and the states that one gets",
        low=1_100,
        high=256 * limits.MIB,
    )
    batch_operations_max: int = _setting(
        limits.ENTITY_BATCH_OPS_MAX, "operations of one batch", low=1, high=100_000
    )
    unfinished_bytes_max: int = _setting(
        limits.HTTP_UNFINISHED_BYTES_MAX,
        "bytes of bodies and messages that are not whole yet, all together; at least a message and a quarter",
        low=64 * limits.KIB,
        high=16 * limits.GIB,
    )
    works_at_once_max: int = _setting(
        limits.WORKS_AT_ONCE_MAX,
        "recordings verified and worlds branched at the same time, one of each address",
        low=1,
        high=64,
    )
    requests_per_address_per_s: int = _setting(
        limits.REQUESTS_PER_ADDRESS_PER_S,
        "HTTP requests of one address a second, the page plane's apart; ten seconds' worth at once",
        low=1,
        high=10_000_000,
    )
    records_per_world_max: int = _setting(
        limits.RECORDS_PER_WORLD_MAX, "records that one world's state holds", low=1, high=10_000_000
    )
    world_bytes_max: int = _setting(
        limits.WORLD_BYTES_MAX,
        "bytes that one world's state holds, 12 more than its own a record",
        low=1_100,
        high=limits.FRAME_BODY_BYTES_MAX * 3 // 4,
    )
    idle_timeout_s: int = _setting(
        30, "a QUIC connection that is silent for longer is gone", low=1, high=3_600
    )
    quic_connections_max: int = _setting(
        limits.QUIC_CONNECTIONS_MAX, "QUIC connections in all", low=1, high=1_000_000
    )
    tcp_connections_max: int = _setting(
        limits.TCP_CONNECTIONS_MAX, "TCP connections of each TCP door in all", low=1, high=1_000_000
    )
    connections_per_address_max: int = _setting(
        limits.CONNECTIONS_PER_ADDRESS_MAX,
        "connections of one address (IPv6: one /64), QUIC and TCP each",
        low=1,
        high=1_000_000,
    )
    handshakes_per_address_per_s: int = _setting(
        limits.HANDSHAKES_PER_ADDRESS_PER_S,
        "new connections of one address a second, QUIC and TLS each; ten seconds' worth at once",
        low=1,
        high=1_000_000,
    )
    reader_datagrams_max: int = _setting(
        limits.READER_DATAGRAMS_MAX,
        "datagrams that a reader is sent in a row: more at once go by a stream",
        low=1,
        high=4_096,
    )
    drain_ms: int = _setting(4_000, "longest time that stopping may take", low=100, high=60_000, reload=True)
    lame_duck_ms: int = _setting(
        0,
        "how long /readyz says no while the doors stay open, before stopping begins",
        low=0,
        high=600_000,
        reload=True,
    )
    ready_lag_ms: int = _setting(
        5_000,
        "/readyz says no while the oldest frame waits longer than this for the store",
        low=100,
        high=600_000,
        reload=True,
    )


SETTINGS: tuple[Field[object], ...] = fields(Settings)


def reloadable() -> frozenset[str]:
    """The settings that a running gateway takes anew when it is told to (SIGHUP)."""
    return frozenset(s.name for s in SETTINGS if s.metadata.get("reload"))


def flag_of(name: str) -> str:
    """``json_logs`` → ``--json-logs``."""
    flags = {s.name: s.metadata.get("flag") for s in SETTINGS}
    return flags.get(name) or "--" + name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Add ``--config`` and a flag for each setting (or for ``names`` only). An absent flag sets nothing."""
    wanted = None if names is None else set(names)
    parser.add_argument("--config", metavar="FILE", default=None, help="TOML file with settings")
    for setting in SETTINGS:
        if wanted is None or setting.name in wanted:
            _add_flag(parser, setting)


def _add_flag(parser: argparse.ArgumentParser, setting: Field[object]) -> None:
    options: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS}
    shown = "" if setting.default in ("", False, ()) else f" (default {setting.default})"
    text = (setting.metadata["help"] + shown).replace("%", "%%")
    if isinstance(setting.default, bool):
        parser.add_argument(flag_of(setting.name), action="store_true", help=text, **options)
        return
    if isinstance(setting.default, tuple):
        options["action"] = "append"
    parser.add_argument(flag_of(setting.name), metavar=_metavar(setting), help=text, **options)
    if off := setting.metadata.get("off"):
        parser.add_argument(
            off, action="store_const", const="", help=f"no {flag_of(setting.name)}", **options
        )


def _metavar(setting: Field[Any]) -> str:
    choices = setting.metadata.get("choices")
    if choices:
        return "|".join(map(str, choices))
    return flag_of(setting.name).removeprefix("--").replace("-", "_").upper()


def load(args: argparse.Namespace | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings that flags, environment and file add up to.

    Raises :class:`ConfigError` naming the flag, variable or key at fault.
    """
    flags = vars(args) if args is not None else {}
    environ = os.environ if environ is None else environ
    path = flags.get("config") or environ.get("MVGATEWAY_CONFIG")
    values = _from_file(Path(path)) if path else {}
    values.update(_from_environment(environ))
    names = {s.name for s in SETTINGS}
    values.update(
        {name: _parsed(name, value, flag_of(name)) for name, value in flags.items() if name in names}
    )
    if not values.get("store"):
        values["store"] = str(data_directory(environ) / "store")
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"--config {path}: not TOML: it is nested too deeply; keys here are flat") from None
    except ValueError as error:  # also what Python says of a number with thousands of digits
        raise ConfigError(f"--config {path}: not TOML: {error}") from None
    names = [s.name for s in SETTINGS]
    for name in table:
        if name not in names:
            raise ConfigError(f"--config {path}: unknown key {name!r}{_nearest(name, names)}")
    return {name: _parsed(name, value, f"{path}: {name}") for name, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    names = {ENVIRONMENT_PREFIX + s.name.upper(): s.name for s in SETTINGS}
    values = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in ENVIRONMENT_OTHERS:
            continue
        if variable not in names:
            raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, list(names))}")
        values[names[variable]] = _parsed(names[variable], value, variable)
    return values


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(sorted(known))}"


def _parsed(name: str, value: object, where: str) -> object:
    """``value`` (text, or a TOML value) as the setting's type and within its bounds."""
    setting = next(s for s in SETTINGS if s.name == name)
    if word := setting.metadata.get("word"):
        return _number_or(word, value, setting.metadata["most"], where)
    value = _PARSERS[type(setting.default)](value, where)
    choices, low, high = (setting.metadata.get(key) for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(str, choices))}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ConfigError(f"{where}: {value} is outside {low} to {high}")
    return value


def _number_or(word: str, value: object, most: int, where: str) -> str:
    """A whole number from 1 on, as text, or that word."""
    if value == word:
        return word
    shown = repr(value)[: limits.NAME_SHOWN_CHARS_MAX]
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9
    if not is_text and (not isinstance(value, int) or isinstance(value, bool)):
        raise ConfigError(f"{where}: {shown} is neither a number from 1 to {most} nor {word}")
    number = int(str(value))
    if not 1 <= number <= most:
        raise ConfigError(f"{where}: {shown} is outside 1 to {most}")
    return str(number)


def _parse_bool(value: object, where: str) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ConfigError(f"{where}: {value!r} is not true or false")


def _parse_int(value: Any, where: str) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):  # the first: TOML has tables, lists and dates, too
        shown = repr(value)[: limits.NAME_SHOWN_CHARS_MAX]
        raise ConfigError(f"{where}: {shown} is not a whole number") from None


def _parse_str(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {value!r} is not text; put it in quotes")
    return value


def _parse_list(value: object, where: str) -> tuple[str, ...]:
    """Text with commas, or a list of such texts."""
    texts = [_parse_str(text, where) for text in (value if isinstance(value, list) else [value])]
    return tuple(part for text in texts for part in map(str.strip, text.split(",")) if part)


_PARSERS: dict[type, Callable[[object, str], object]] = {
    bool: _parse_bool,
    int: _parse_int,
    str: _parse_str,
    tuple: _parse_list,
}


def _check_together(settings: Settings) -> None:
    if bool(settings.cert) != bool(settings.key):
        raise ConfigError(
            "--cert and --key belong together: give both, or neither to have the gateway make its own"
        )
    for name in ("plain", "udp", "admin_api"):
        text = getattr(settings, name)
        if text and not is_loopback(split_address(text, flag_of(name))[0]):
            raise ConfigError(
                f"{flag_of(name)} {text}: clear text is served on loopback only; use 127.0.0.1:PORT"
            )
    _check_node(settings.node)
    _check_peers(settings)
    if settings.server_id and not re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,2}", settings.server_id):
        raise ConfigError(
            f"--server-id {settings.server_id[:20]}: 2 or 4 hexadecimal digits name a gateway (00 to ffff); every gateway behind "
            "the same balancer has another, and all have as many digits"
        )
    for name in ("auth_audience", "auth_ca"):
        if getattr(settings, name) and not settings.auth_keys:
            raise ConfigError(f"{flag_of(name)} is of use with --auth-keys only; give that, too, or neither")
    has_access_control = bool(settings.auth_keys or settings.client_ca)
    if not is_loopback(settings.host) and not settings.insecure_public and not has_access_control:
        raise ConfigError(
            f"--host {settings.host} is reachable by others and nothing checks who connects; "
            "give --auth-keys (mvgateway token keygen makes some), say --insecure-public if that is what you want, "
            "or listen on 127.0.0.1"
        )


def _check_peers(settings: Settings) -> None:
    if len(settings.peers) > limits.EDGE_PEERS_MAX:
        raise ConfigError(
            f"--peers names {len(settings.peers)} gateways; the bound is {limits.EDGE_PEERS_MAX}"
        )
    for flag, urls in (("--peers", settings.peers), ("--upstream", (settings.upstream,))):
        for url in urls:
            if flag == "--peers" and url == PEERS_OF_THE_STORE:
                continue
            _check_node(url, flag)
            if url and not url.startswith("https://"):
                raise ConfigError(
                    f"{flag} {url!r:.128}: gateways follow each other over QUIC; write https://"
                )
    for name in ("peer_ca", "peer_token_file"):
        if getattr(settings, name) and not (settings.node or settings.peers or settings.upstream):
            raise ConfigError(f"{flag_of(name)} is of use with --node, --peers or --upstream only")


def _check_node(url: str, flag: str = "--node") -> None:
    """``--node`` is an origin: readers are sent there, and add the path themselves."""
    from urllib.parse import urlsplit

    if not url:
        return
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"{flag} {url!r:.128} is not a gateway's address; write it like https://game-1.example:4433"
        )
    if len(url) > limits.NODE_CHARS_MAX:
        raise ConfigError(f"{flag} has {len(url)} characters; the bound is {limits.NODE_CHARS_MAX}")


def split_address(text: str, where: str) -> tuple[str, int]:
    """``127.0.0.1:7080``, ``[::1]:7080`` or ``7080`` → (host, port)."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{where}: {text!r} is not ADDRESS:PORT")
    return host, int(port)


def in_brackets(host: str) -> str:
    """A host as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """True for ``localhost``, ``::1`` and 127.0.0.0/8."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
