#!/bin/sh
# Installs what some tests want from the system. Where it can't, the tests that need it skip
# with a line that says what and why; with CI=true a missing part is an error.
set -u
missing=""
fetched=0
here=$(dirname "$0")
{ sh "$here/godot.sh" && sh "$here/godot.sh" 3 && sh "$here/elixir.sh"; } >/dev/null || fetched=1
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v elixir >/dev/null 2>&1 || missing="$missing elixir"
ls -d /usr/lib/erlang/lib/jose-* >/dev/null 2>&1 || missing="$missing erlang-jose erlang-jiffy"
command -v zsh >/dev/null 2>&1 || missing="$missing zsh"
command -v fish >/dev/null 2>&1 || missing="$missing fish"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
command -v tsc >/dev/null 2>&1 || missing="$missing node-typescript"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v firefox-esr >/dev/null 2>&1 || command -v firefox >/dev/null 2>&1 || missing="$missing firefox-esr"
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
command -v haproxy >/dev/null 2>&1 || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing nginx libnginx-mod-stream"

# promtool alone out of Debian's prometheus package: the tests need no server, and none is to start.
tools=".venv/bin"
if [ -d "$tools" ] && [ ! -x "$tools/promtool" ] && ! command -v promtool >/dev/null 2>&1; then
    folder=$(mktemp -d)
    { [ "$(id -u)" != 0 ] || apt-get update -qq; } >/dev/null 2>&1
    (cd "$folder" && apt-get download -qq prometheus) >/dev/null 2>&1 \
        && dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -xf - -C "$folder" ./usr/bin/promtool \
        && mv "$folder/usr/bin/promtool" "$tools/promtool" \
        || echo "promtool is not to be had here; the tests of the alert rules are skipped" >&2
    rm -rf "$folder"
fi
[ "$fetched" = 0 ] || [ "${CI:-}" != true ] || exit 1
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests:$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing; } >/dev/null 2>&1 && exit 0
fi
echo "not installed, and not installable here:$missing; the tests that need it are skipped" >&2
[ "${CI:-}" != true ]
