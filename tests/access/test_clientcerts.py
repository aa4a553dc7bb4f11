"""Client certificates: the grant in their SAN URIs, at the TLS door over TCP."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.core.grants import BadGrant, Need
from gateway.errors import ConfigError
from gateway.runtime.access.clientcerts import ask_clients, grant_of
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S

from .conftest import Maker, StartGated
from .knocking import WebSocketSession, bearer, by_webtransport, tls_of


class Authority:
    """A CA of client certificates."""

    def __init__(self, folder: Path, name: str = "studio") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}-ca.pem"
        self.file.write_bytes(
            self._made(self._name, self._key.public_key(), (), is_ca=True).public_bytes(
                serialization.Encoding.PEM
            )
        )

    def _made(
        self, subject: x509.Name, key: Any, uris: tuple[str, ...], *, is_ca: bool = False, days: float = 1
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if uris:
            names = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def client(
        self, gateway: Gateway, *uris: str, days: float = 1, tls: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server-2")])
        certificate = self._made(subject, key.public_key(), uris, days=days)
        digits = f"{certificate.serial_number:x}"
        self.serial = digits.zfill(len(digits) + len(digits) % 2)  # as OpenSSL prints it, in lower case
        file = self._folder / "client.pem"
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
        context = tls_of(gateway)
        context.load_cert_chain(file)
        if tls is not None:
            context.maximum_version = tls
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def client_of(gateway: Gateway, context: ssl.SSLContext, **more: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{gateway.port}", verify=context, timeout=HANG_S, **more
    )


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("version", ["1.1", "2", "TLS 1.2"])
async def test_a_certificate_is_the_grant_that_its_uris_are(
    start_gated: StartGated, authority: Authority, version: str, keys: bool
) -> None:
    more = {} if keys else {"auth_keys": ""}
    gated = await start_gated(client_ca=str(authority.file), **more)
    tls = ssl.TLSVersion.TLSv1_2 if version == "TLS 1.2" else None
    context = authority.client(
        gated, "mvgateway:admin:plaza-*", "mvgateway:sub:plaza-*", "mvgateway:sub:arena", tls=tls
    )
    async with client_of(gated, context, http1=version != "2", http2=version == "2") as client:
        assert (await client.put("/v1/worlds/plaza-1", json={})).status_code == 201
        assert (await client.get("/v1/worlds/plaza-1")).status_code == 200
        answer = await client.put("/v1/worlds/arena", json={})
        assert (answer.status_code, answer.json()["rule"]) == (403, "name")
        assert (await client.post("/v1/worlds/plaza-1/frames")).json()["rule"] == "verb"
    async with client_of(gated, tls_of(gated)) as client:
        assert (await client.get("/v1/worlds/plaza-1")).json()["rule"] == "missing"


async def test_a_websocket_stands_on_its_connections_certificate(
    start_gated: StartGated, authority: Authority
) -> None:
    gated = await start_gated(client_ca=str(authority.file))
    context = authority.client(gated, "mvgateway:pub:plaza-*")
    url = f"wss://127.0.0.1:{gated.port}/v1/worlds/plaza-1/live?role=publish"
    session = WebSocketSession(await websockets.connect(url, ssl=context))
    await session.until("welcome")
    assert gated.gate is not None
    assert (await gated.gate.revoke(authority.serial))["ended"] == 1
    assert (await session.until("bye"))["reason"] == "revoked"
    await session.close()


async def test_over_quic_nobody_is_asked_for_a_certificate(
    start_gated: StartGated, authority: Authority, maker: Maker
) -> None:
    gated = await start_gated(client_ca=str(authority.file))
    answer = await by_webtransport("/v1/worlds/plaza-1/live?role=publish")(
        gated, maker.token({"pub": ["plaza-1"]})
    )
    assert answer.status == 200


async def test_a_token_that_comes_along_counts_alone(
    start_gated: StartGated, authority: Authority, maker: Maker
) -> None:
    gated = await start_gated(client_ca=str(authority.file))
    async with client_of(gated, authority.client(gated, "mvgateway:admin:*")) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/metrics", headers=bearer(maker.token({"sub": ["*"]})))).json()[
            "rule"
        ] == "verb"
        assert (await client.get("/metrics", headers=bearer("abc"))).status_code == 401


@pytest.mark.parametrize(
    "uri",
    [
        "mvgateway:pub",
        "mvgateway:subs:*",
        "mvgateway:pub:a*b",
        "mvgateway:kbps:many",
        "mvgateway:takeover:yes",
    ],
)
async def test_uris_that_are_not_understood_are_no_grant(
    start_gated: StartGated, authority: Authority, uri: str
) -> None:
    gated = await start_gated(client_ca=str(authority.file))
    async with client_of(gated, authority.client(gated, "mvgateway:admin:*", uri)) as client:
        assert (await client.get("/v1/worlds")).json()["rule"] == "missing"
    assert gated.tls_server is not None
    assert gated.tls_server.refused["bad_client_certificate"] == 1


async def test_a_certificate_of_another_authority_or_out_of_date_reaches_nothing(
    start_gated: StartGated, authority: Authority, tmp_path: Path
) -> None:
    gated = await start_gated(client_ca=str(authority.file))
    other = Authority(tmp_path / "other", "other")
    for context in (
        other.client(gated, "mvgateway:admin:*"),
        authority.client(gated, "mvgateway:admin:*", days=-1),
    ):
        with pytest.raises(httpx.TransportError):
            async with client_of(gated, context) as client:
                await client.get("/healthz")


def test_uris_make_one_grant() -> None:
    certificate = {
        "subject": ((("commonName", "server-2"),),),
        "serialNumber": "0AFF",
        "notAfter": "Nov 28 11:07:26 2026 GMT",
        "subjectAltName": (
            ("DNS", "game.example"),
            ("URI", "https://game.example/"),
            ("URI", "mvgateway:ent:plaza-*"),
            ("URI", "mvgateway:ent:arena"),
            ("URI", "mvgateway:owner:server-2"),
            ("URI", "mvgateway:takeover:true"),
            ("URI", "mvgateway:sessions:4"),
            ("URI", "mvgateway:delay_s:2.5"),
        ),
    }
    grant = grant_of(certificate)
    assert grant is not None
    assert grant.allows(Need("ent", ("plaza-1", "arena"), takeover=True))
    assert (grant.subject, grant.jti, grant.owner, grant.sessions, grant.delay_s) == (
        "server-2",
        "0aff",
        "server-2",
        4,
        2.5,
    )
    assert grant.expires_s == 1_795_864_046.0
    assert grant_of({}) is None
    assert grant_of({"subjectAltName": (("URI", "https://game.example/"),)}) is None
    with pytest.raises(BadGrant):
        grant_of(
            {**certificate, "subjectAltName": (("URI", "mvgateway:owner:a"), ("URI", "mvgateway:owner:b"))}
        )
    for wrong in ("mvgateway:delay_s:²", "mvgateway:delay_s:.", "mvgateway:kbps:²"):
        with pytest.raises(BadGrant):
            grant_of({**certificate, "subjectAltName": (("URI", wrong),)})


def test_a_file_without_a_ca_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="--client-ca"):
            ask_clients(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / name)
