#!/bin/sh
# Installs what some tests want from the system. Where it can't, the tests that need it skip
# with a line that says what and why; with CI=true a missing part is an error.
set -u
missing=""
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v elixir >/dev/null 2>&1 || missing="$missing elixir"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests:$missing"
    # shellcheck disable=SC2086
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing; } >/dev/null 2>&1 && exit 0
fi
echo "not installed, and not installable here:$missing; the tests that need it are skipped" >&2
[ "${CI:-}" != true ]
