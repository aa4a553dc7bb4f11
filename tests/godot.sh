#!/bin/sh
# Prints the path of a Godot 4 for the tests: $GODOT, one on the PATH, or Debian's, which is fetched once (tests/sid.sh).
# Prints nothing on stdout and says why on stderr where none is to be had.
#
#   sh tests/godot.sh             as above
#   sh tests/godot.sh --look      only what is there already
#   sh tests/godot.sh [--look] 3  a Godot 3: $GODOT3, one on the PATH, or Debian's server
set -u
look=""
[ "${1:-}" != --look ] || { look=--look; shift; }
if [ "${1:-4}" = 3 ]; then
    wanted=3; flag=--no-window; package=godot3-server; program=usr/bin/godot3-server; names="${GODOT3:-} godot3-server godot3"
else
    wanted=4; flag=--headless; package=godot; program=usr/bin/godot; names="${GODOT:-} godot4 godot"
fi
for found in $names; do
    found=$(command -v "$found") && case $("$found" "$flag" --version 2>/dev/null) in
        "$wanted".*) echo "$found"; exit 0;;
    esac
done
# shellcheck disable=SC2086
cache=$(sh "$(dirname "$0")/sid.sh" $look "godot-$wanted" "$package") || exit 1
if [ ! -x "$cache/godot" ]; then
    printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/run" %s "$@"\n' "$program" > "$cache/godot.$$"
    chmod +x "$cache/godot.$$" && mv "$cache/godot.$$" "$cache/godot" || { echo "no Godot $wanted: $cache takes no files" >&2; exit 1; }
fi
"$cache/godot" "$flag" --version >/dev/null 2>&1 \
    || { echo "no Godot $wanted: $cache/godot does not start; remove that folder to fetch it anew" >&2; exit 1; }
echo "$cache/godot"
