"""Every setting of the gateway: its default, what it does, its bounds. Room: config.

A setting is a line here and nothing else: its flag, its environment variable and its row in ``docs/CONFIG.md`` are made from it.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from gateway import limits


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
