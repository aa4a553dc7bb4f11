#!/bin/sh
# Fetches packages of Debian sid, with all that they link to, from the mirror that this machine's apt uses, and unpacks them
# once in a cache folder beside the system: no package is installed, and root is not needed. Prints that folder; says why on
# stderr where it cannot be had. In it are root/ (what was unpacked) and `run`, which starts a program of root/ by sid's own
# dynamic linker:  run usr/bin/PROGRAM …
#
#   sh tests/sid.sh NAME PACKAGE…          as above; NAME is the cache folder's
#   sh tests/sid.sh --look NAME PACKAGE…   only what is there already
set -u
look=0
[ "$1" != --look ] || { look=1; shift; }
name=$1
shift
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mvgateway/$name"
[ -x "$cache/run" ] && { echo "$cache"; exit 0; }
no() { echo "no $name: $1" >&2; exit 1; }
[ "$look" = 0 ] || no "none is there and none was fetched yet (sh tests/system-deps.sh fetches one)"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 && [ -r "$keys" ] \
    || no "it is fetched from Debian, and this is no Debian"
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | head -n 1)
[ -n "$site" ] || no "apt names no Debian mirror here"

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
apt-get update -qq >"$work/log" 2>&1 && apt-get install -qq -y --download-only "$@" >>"$work/log" 2>&1 \
    || no "apt: $(grep -E '^E:' "$work/log" | head -n 1)"
for package in "$work"/cache/archives/*.deb; do
    case $package in
        */mesa-*|*/libllvm*|*/libz3*|*/fonts-*|*/xkb-*|*/pci.ids*|*/systemd_*|*/procps_*) continue;;  # what draws, and services
    esac
    dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$work/root" --exclude='./usr/share/*' --exclude='./etc/*' \
        || no "$(basename "$package") cannot be unpacked"
done
linker=$(find "$work/root" -type f -name 'ld-linux*.so.*' | head -n 1)
[ -n "$linker" ] || no "Debian's libc6 has no dynamic linker any more"
cat > "$work/run" <<RUN
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
lib=\$here${linker#"$work"}
program=\$here/root/\$1
shift
exec "\$lib" --library-path "\$(dirname "\$lib"):\$(dirname "\$lib")/pulseaudio" "\$program" "\$@"
RUN
chmod +x "$work/run"
rm -rf "$work/cache" "$work/state" "$work/root/var"
rm -rf "$cache"
mv "$work" "$cache" 2>/dev/null || [ -x "$cache/run" ] || no "$cache takes no files"
echo "$cache"
