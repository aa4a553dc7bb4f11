"""Grants in client certificates: what stands in their SAN URIs. Room: runtime.

``mvgateway:VERB:PATTERN``, and ``mvgateway:owner:NAME``, ``mvgateway:takeover:true``, ``mvgateway:kbps:512`` and so on;
several URIs make one grant. TLS has checked the certificate by then. Sources: RFC 5280 section 4.2.1.6, Python's
``SSLObject.getpeercert``.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.core.grants import VERBS, BadGrant, Grant, Scope
from gateway.errors import ConfigError
from gateway.limits import TOKEN_NAME_CHARS_MAX
from gateway.runtime.access.revoked import CERTIFICATE_KID

SCHEME: Final = "mvgateway"
_WHOLE: Final = ("kbps", "rps", "sessions")


def ask_clients(context: ssl.SSLContext, ca: Path) -> None:
    """Have clients asked for a certificate of that CA, and let in without one. Raises :class:`ConfigError`."""
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--client-ca {ca}: no PEM file with a CA in it ({error})") from None
    # OPTIONAL and not REQUIRED: whoever has a token needs no certificate, and browsers would ask their
    # users for one.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET  # each connection proves it anew
    context.num_tickets = 0


def grant_of(certificate: Mapping[str, object] | None) -> Grant | None:
    """The grant in a client's certificate (as ``getpeercert`` gives it); None where there is none. Raises
    :class:`BadGrant` for URIs of ours that cannot be understood: nothing of them counts.
    docs/ACCESS.md; RFC 5280 section 4.2.1.6."""
    if not certificate:
        return None
    names = _pairs(certificate.get("subjectAltName"))
    uris = [value for kind, value in names if kind == "URI" and value.startswith(SCHEME + ":")]
    if not uris:
        return None
    scope = Scope.of(_claim(uris))
    not_after = datetime.strptime(str(certificate["notAfter"]), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
    serial = str(certificate.get("serialNumber", "")).lower()
    return scope.grant(
        None,
        subject=_common_name(certificate) or f"certificate {serial}"[:TOKEN_NAME_CHARS_MAX],
        jti=serial[:TOKEN_NAME_CHARS_MAX],
        kid=CERTIFICATE_KID,
        expires_s=not_after.timestamp(),
    )


def _claim(uris: list[str]) -> dict[str, object]:
    claim: dict[str, object] = {}
    lists: dict[str, list[str]] = {}
    for uri in uris:
        name, _, value = uri.removeprefix(SCHEME + ":").partition(":")
        if name in VERBS:
            claim[name] = lists.setdefault(name, [])
            lists[name].append(value)
        elif name in claim:
            raise BadGrant(f"the URI {SCHEME}:{name[:32]} stands twice in a certificate")
        elif name == "takeover" and value == "true":
            claim[name] = True
        # isascii() first: isdigit() takes digits of all scripts, and int() some that isdigit() does not.
        elif name in _WHOLE and value.isascii() and value.isdigit() and len(value) < 10:
            claim[name] = int(value)
        elif name == "delay_s" and re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", value) and len(value) < 10:
            claim[name] = float(value)
        elif name == "owner":
            claim[name] = value
        # Not passed over: a bound that is misspelt would be no bound.
        else:
            raise BadGrant(f"the URI {SCHEME}:{name[:32]} in a certificate is not understood")
    return claim


def _pairs(value: object) -> list[tuple[str, str]]:
    """What ``getpeercert`` gives as tuples of two texts."""
    return [(str(name), str(told)) for name, told in value] if isinstance(value, tuple) else []


def _common_name(certificate: Mapping[str, object]) -> str:
    groups = certificate.get("subject")
    parts = [part for group in groups for part in _pairs(group)] if isinstance(groups, tuple) else []
    name = next((value for kind, value in parts if kind == "commonName"), "")
    return str(name) if len(name) <= TOKEN_NAME_CHARS_MAX and str(name).isprintable() else ""
