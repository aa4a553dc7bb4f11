#!/bin/sh
# Prints a folder with the newest Elixir that Debian has (mix, elixir) and an Erlang of its own, for the tests: fetched once
# (tests/sid.sh). Prints nothing on stdout and says why on stderr where none is to be had.
#
#   sh tests/elixir.sh          as above
#   sh tests/elixir.sh --look   only what is there already
set -u
# shellcheck disable=SC2086
cache=$(sh "$(dirname "$0")/sid.sh" ${1:-} elixir-newest elixir erlang-inets erlang-ssl erlang-tools erlang-parsetools) || exit 1
no() { echo "no elixir-newest: $1" >&2; exit 1; }
bin=$cache/bin
if [ ! -x "$bin/mix" ]; then
    erlang=$cache/root/usr/lib/erlang
    made=$(mktemp -d "$cache/bin.XXXXXX") || no "$cache takes no files"
    # Erlang starts programs of its own: each by sid's linker.
    for folder in "$erlang"/erts-*/bin; do
        for program in beam.smp erl_child_setup erlexec inet_gethost; do
            [ -f "$folder/$program.real" ] || mv "$folder/$program" "$folder/$program.real" || no "$erlang has no $program"
            printf '#!/bin/sh\nexec %s %s "$@"\n' "$cache/run" "${folder#"$cache/root/"}/$program.real" > "$folder/$program"
            chmod +x "$folder/$program"
        done
    done
    sed "s#ROOTDIR=/usr/lib/erlang#ROOTDIR=$erlang#" "$erlang/bin/erl" > "$made/erl"
    chmod +x "$made/erl"
    for program in elixir elixirc mix; do
        printf '#!/bin/sh\nPATH=%s:$PATH exec %s "$@"\n' "$bin" "$cache/root/usr/lib/elixir/bin/$program" > "$made/$program"
        chmod +x "$made/$program"
    done
    chmod 755 "$made"
    mv -T "$made" "$bin" 2>/dev/null || [ -x "$bin/mix" ] || no "$cache takes no files"
fi
"$bin/elixir" --version >/dev/null 2>&1 || no "$bin/elixir does not start; remove $cache to fetch it anew"
echo "$bin"
