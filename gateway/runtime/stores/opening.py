"""Opening a store by its name: a folder, an mvstore, or another gateway. Room: runtime.

It stands here and not in ``store/`` because a gateway behind ``https://`` is reached over QUIC.
"""

from __future__ import annotations

from typing import Literal

from gateway import limits
from gateway.client.address import Address
from gateway.client.token import Token, TokenSource
from gateway.client.trust import Trust
from gateway.errors import ConfigError
from gateway.runtime.stores.http3 import H3Transport
from gateway.runtime.stores.tokens import authorized
from gateway.store.base import Store
from gateway.store.cache import CachedStore
from gateway.store.embedded import EmbeddedStore, ReadOnlyStore
from gateway.store.remote import AdminApi, HttpxTransport, RemoteOptions, RemoteStore, TcpTransport, Transport

StoreTransport = Literal["auto", "h3", "h2", "h1"]


def is_remote(target: str) -> bool:
    """Whether a store's name is an address, and not a folder."""
    return target.startswith(("http://", "https://"))


async def open_store(
    target: str,
    *,
    admin_url: str | None = None,
    auto_create: bool = False,
    read_only: bool = False,
    trust: Trust | None = None,
    transport: StoreTransport = "auto",
    cache_bytes: int = limits.STORE_CACHE_BYTES,
    options: RemoteOptions | None = None,
    token: TokenSource | Token | None = None,
) -> Store:
    """Open the store that ``target`` names, on the running loop.

    A folder is the embedded engine (``auto_create``: namespaces are made on first use; ``read_only``:
    one moment of it, whoever has it open, without a lock or a write).
    ``http://HOST:PORT`` is an mvstore, ``https://HOST:PORT`` a gateway; several addresses of one
    store are separated by commas, and so are those of its admin API (``admin_url``), which are asked in turn. ``transport``: ``auto`` is HTTP/3 with TCP as its fallback for
    https, and HTTP/1.1 for http; over TCP, HTTP/2 is spoken with what speaks nothing else. ``cache_bytes``: pages of a remote
    store kept here (0: none). ``token``, as in :class:`gateway.client.live.Live`: of a gateway that asks for one. Raises :class:`ConfigError` for a name that cannot be used.
    """
    if not is_remote(target):
        return (
            ReadOnlyStore.open(target) if read_only else EmbeddedStore.open(target, auto_create=auto_create)
        )
    trust = trust or Trust.of()
    by = token if token is None or isinstance(token, Token) else Token(token)
    transports = [authorized(_transport(url, trust, transport), by) for url in _urls(target)]
    admin_urls = _urls(admin_url, "--store-admin") if admin_url else []
    admin = (
        AdminApi(*(authorized(_tcp(url, trust, "auto"), by) for url in admin_urls)) if admin_urls else None
    )
    if options is None:
        # in clear text it may be an mvstore; a gateway looks by itself
        options = RemoteOptions(check_assumed=target.startswith("http://"))
    store = RemoteStore(transports, admin=admin, options=options)
    return CachedStore(store, bytes_max=cache_bytes) if cache_bytes else store


def _urls(target: str, flag: str = "--store") -> list[str]:
    scheme = target.partition("://")[0]
    urls = [part if "://" in part else f"{scheme}://{part}" for part in target.split(",") if part]
    if len(urls) > limits.STORE_ADDRESSES_MAX:
        raise ConfigError(
            f"{flag} names {len(urls)} addresses; at most {limits.STORE_ADDRESSES_MAX} are taken"
        )
    return [Address.parse(url.strip()).base_url for url in urls]


def _transport(url: str, trust: Trust, choice: StoreTransport) -> Transport:
    if url.startswith("http://"):
        if choice == "h3":
            raise ConfigError(f"HTTP/3 needs https; {url} is in clear text")
        return _tcp(url, trust, choice)
    if choice in ("h1", "h2"):
        return _tcp(url, trust, choice)
    return H3Transport(url, trust=trust, fallback=_tcp(url, trust, "auto") if choice == "auto" else None)


def _tcp(url: str, trust: Trust, choice: StoreTransport) -> Transport:
    tls = trust.ssl_context() if url.startswith("https://") else None
    if choice == "h2":
        return HttpxTransport(url, tls=tls)
    return TcpTransport(url, tls=tls, http2=choice != "h1")
