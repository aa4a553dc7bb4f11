#!/bin/sh
# sh .ci/install.sh PYTHON LOCK: installs what a lock file names; where somebody looks on, it says how far it is.
set -eu
python=$1
lock=$2
pip() { "$python" -m pip install --disable-pip-version-check --require-hashes -r "$lock" "$@"; }
if [ ! -t 1 ]; then
	pip --quiet
	exit
fi
all=$(grep -c == "$lock")
failed=$(mktemp)
trap 'rm -f "$failed"' EXIT
# the shell's own read and no awk: mawk waits for a whole block before it sees the first line
{ pip --progress-bar off || echo failed >"$failed"; } | {
	n=0
	while read -r word name _; do
		case $word in
		Collecting)
			n=$((n + 1))
			printf '\r\033[K  %s of %s: %s' "$n" "$all" "$name"
			;;
		Installing) printf '\r\033[K  %s fetched, unpacking them' "$n" ;;
		esac
	done
	printf '\r\033[K'
}
[ ! -s "$failed" ]
