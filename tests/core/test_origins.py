"""Which pages pass, and by which names a door for this machine answers."""

from __future__ import annotations

import pytest

from gateway.core.origins import Misdirected, OriginRefused, Origins, normal
from gateway.errors import ConfigError

OWN = "127.0.0.1:4433"
LISTED = ["https://game.example", "https://app.example:8443/"]


def origins(*allowed: str, loopback: bool = True) -> Origins:
    return Origins(allowed, loopback=loopback, names=lambda: ("10.0.0.5", "gw.example", "*.lan.example"))


@pytest.mark.parametrize(
    "origin",
    [
        "https://127.0.0.1:4433",
        "http://127.0.0.1:8000",
        "http://localhost",
        "https://localhost:3000",
        "http://127.9.9.9:1",
        "http://[::1]:8000",
        "https://game.example",
        "HTTPS://Game.Example:443",
        "https://app.example:8443",
    ],
)
def test_pages_of_this_machine_and_listed_ones_pass(origin: str) -> None:
    origins(*LISTED).check("https", OWN, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://game.example",
        "https://game.example:444",
        "https://game.example.evil.example",
        "https://notgame.example",
        "https://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://192.168.0.7:8000",
        "http://0.0.0.0:4433",
        "ftp://localhost",
        "https://game.example, https://evil.example",
        "https://user@localhost",
        "https://localhost\x00",
        "https://[::1",
        "https://é.example",
    ],
)
def test_every_other_page_is_refused(origin: str) -> None:
    with pytest.raises(OriginRefused) as refused:
        origins(*LISTED).check("https", OWN, origin)
    assert (refused.value.status, refused.value.code) == (403, "origin_refused")
    assert "--allow-origin" in refused.value.message
    assert origin[:100] in refused.value.message


def test_a_request_without_an_origin_passes_whatever_is_listed() -> None:
    for rule in (origins(), origins(*LISTED), origins(loopback=False)):
        rule.check("https", OWN, None)


def test_beyond_loopback_pages_of_the_visitors_machine_are_foreign_and_its_own_pages_are_not() -> None:
    rule = origins(loopback=False)
    rule.check("https", "play.example:4433", "https://play.example:4433")
    for origin in ("http://localhost:3000", "https://play.example", "http://play.example:4433"):
        with pytest.raises(OriginRefused):
            rule.check("https", "play.example:4433", origin)


def test_the_clear_text_door_stays_this_machines_when_the_other_is_public() -> None:
    rule = origins(loopback=False)
    rule.check("http", "127.0.0.1:7080", "http://localhost:3000")
    with pytest.raises(Misdirected):
        rule.check("ws", "rebound.example:7080", None)


def test_a_websockets_own_page_has_the_schemes_of_http() -> None:
    rule = origins(loopback=False)
    rule.check("wss", "play.example", "https://play.example")


def test_a_star_lets_every_page_and_every_name_in() -> None:
    rule = origins("*")
    for origin in ("null", "https://evil.example", "what?"):
        rule.check("https", "rebound.example", origin)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "localhost",
        "LOCALHOST:4433",
        "localhost.:4433",
        "127.0.0.1:4433",
        "127.0.0.2",
        "[::1]:4433",
        "[0:0:0:0:0:0:0:1]:4433",
        "10.0.0.5:4433",
        "gw.example",
        "Gw.Example:4433",
        "a.lan.example",
        "game.example:4433",
    ],
)
def test_a_door_for_this_machine_answers_to_its_own_names(authority: str) -> None:
    origins("https://game.example").check("https", authority, None)


@pytest.mark.parametrize(
    "authority",
    [
        "rebound.example",
        "a.b.lan.example",
        "lan.example",
        "127.0.0.1.evil.example",
        "192.168.0.7:4433",
        "a b",
        ":",
        "@",
    ],
)
def test_a_door_for_this_machine_refuses_other_names_even_to_their_own_pages(authority: str) -> None:
    for origin in (None, f"https://{authority}"):
        with pytest.raises(Misdirected) as refused:
            origins().check("https", authority, origin)
        assert refused.value.status == 421
        assert authority in refused.value.message


def test_beyond_loopback_any_name_may_be_the_gateways() -> None:
    origins(loopback=False).check("https", "play.example", None)


def test_a_refusal_repeats_only_the_beginning_of_what_it_refuses() -> None:
    with pytest.raises(OriginRefused) as refused:
        origins().check("https", OWN, "https://" + "a" * 9_000)
    assert len(refused.value.message) < 500


@pytest.mark.parametrize(
    "text", ["game.example", "https://game.example/path", "null", "https://", "https://*.example"]
)
def test_a_list_entry_that_is_no_origin_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="--allow-origin"):
        Origins([text])


def test_an_origin_has_one_form() -> None:
    assert normal("HTTP://Host.:80") == "http://host"
    assert normal("https://host:80") == "https://host:80"
    assert normal("capacitor://localhost") == "capacitor://localhost"
    assert normal("null") is None


CROSS = {"sec-fetch-site": "cross-site"}


@pytest.mark.parametrize("fetch", [{}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}])
def test_what_no_foreign_page_asked_passes(fetch: dict[str, str]) -> None:
    origins().check_fetch(fetch, None, page=False)


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("more", [{}, {"sec-fetch-mode": "no-cors"}, {"sec-fetch-mode": "navigate"}])
def test_an_image_on_a_foreign_page_is_refused(more: dict[str, str], page: bool) -> None:
    with pytest.raises(OriginRefused, match="--allow-origin"):
        origins(*LISTED).check_fetch({**CROSS, **more}, None, page=page)


def test_a_link_is_followed_to_a_page_only_and_an_allowed_origin_is_not_asked_twice() -> None:
    link = {**CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    origins().check_fetch(link, None, page=True)
    with pytest.raises(OriginRefused):
        origins().check_fetch(link, None, page=False)
    origins(*LISTED).check_fetch(CROSS, "https://game.example", page=False)
    origins("*").check_fetch(CROSS, None, page=False)


def test_an_address_of_ipv6_is_one_name_however_it_is_spelt() -> None:
    gateway = Origins(["https://[2001:db8::1]"], names=lambda: ["2001:db8:0::2"])
    for authority in ("[2001:db8::1]:4433", "[2001:DB8:0:0::1]:4433", "[2001:db8::2]", "[2001:0db8::0:2]:1"):
        gateway.check("https", authority, None)
    for authority in ("[2001:db8::3]:4433", "[2001:db8:::1]"):
        with pytest.raises(Misdirected):
            gateway.check("https", authority, None)
