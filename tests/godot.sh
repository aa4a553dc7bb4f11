#!/bin/sh
# Prints the path of a Godot 4 for the tests: $GODOT, one on the PATH, or Debian's, which is fetched once with all
# that it links to, from the mirror that this machine's apt uses, and unpacked in a cache folder beside the system
# (no package is installed, and root is not needed). It starts by its own dynamic linker. Prints nothing on
# stdout and says why on stderr where none is to be had.
#
#   sh tests/godot.sh          as above
#   sh tests/godot.sh --look   only what is there already
set -u
for found in "${GODOT:-}" godot4 godot; do
    [ -n "$found" ] && found=$(command -v "$found") && case $("$found" --headless --version 2>/dev/null) in
        4.*) echo "$found"; exit 0;;
    esac
done
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mvgateway/godot-4"
[ -x "$cache/godot" ] && "$cache/godot" --headless --version >/dev/null 2>&1 && { echo "$cache/godot"; exit 0; }
no() { echo "no Godot 4: $1" >&2; exit 1; }
[ "${1:-}" != --look ] || no "none on the PATH and none fetched yet (sh tests/godot.sh fetches one)"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 && [ -r "$keys" ] \
    || no "it is fetched from Debian, and this is no Debian; put one on the PATH or name it in GODOT"
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1)
[ -n "$site" ] || no "apt names no Debian mirror here; put one on the PATH or name it in GODOT"

mkdir -p "$(dirname "$cache")"
work=$(mktemp -d "$cache.XXXXXX") || no "$(dirname "$cache") takes no files"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/etc/apt.conf.d" "$work/state/lists/partial" "$work/cache/archives/partial" "$work/root"
: > "$work/status"
echo "deb [signed-by=$keys] $site sid main" > "$work/etc/sources.list"
cat > "$work/apt.conf" <<APT
Dir::Etc "$work/etc"; Dir::Etc::sourceparts "/dev/null"; Dir::State "$work/state"; Dir::State::status "$work/status";
Dir::Cache "$work/cache"; Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; Acquire::Retries "3";
APT::Install-Recommends "false"; APT::Sandbox::User "$(id -un)";
APT
export APT_CONFIG="$work/apt.conf"
apt-get update -qq >"$work/log" 2>&1 && apt-get install -qq -y --download-only godot >>"$work/log" 2>&1 \
    || no "apt: $(grep -E '^E:' "$work/log" | head -n 1)"
for package in "$work"/cache/archives/*.deb; do
    case $package in
        */mesa-*|*/libllvm*|*/libz3*|*/fonts-*|*/xkb-*|*/pci.ids*) continue;;  # what draws, and no library of its own
    esac
    dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$work/root" --exclude='./usr/share/*' --exclude='./etc/*' \
        || no "$(basename "$package") cannot be unpacked"
done
linker=$(find "$work/root" -type f -name 'ld-linux*.so.*' | head -n 1)
[ -n "$linker" ] && [ -x "$work/root/usr/bin/godot" ] || no "Debian's package has no /usr/bin/godot any more"
cat > "$work/godot" <<RUN
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
lib=\$here${linker#"$work"}
exec "\$lib" --library-path "\$(dirname "\$lib"):\$(dirname "\$lib")/pulseaudio" "\$here/root/usr/bin/godot" "\$@"
RUN
chmod +x "$work/godot"
rm -rf "$work/cache" "$work/state" "$work/root/var"
"$work/godot" --headless --version >/dev/null 2>>"$work/log" || no "it does not start: $(tail -n 1 "$work/log")"
rm -rf "$cache"
mv "$work" "$cache" 2>/dev/null || [ -x "$cache/godot" ] || no "$cache takes no files"
echo "$cache/godot"
