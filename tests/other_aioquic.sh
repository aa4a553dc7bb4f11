#!/bin/sh
# Runs the suites of QUIC, of the client and of other stacks' clients on another aioquic than the lock's.
# Usage: tests/other_aioquic.sh VERSION [what pytest takes]
# It is installed in an environment of its own, before that of .venv, which has all else.
set -eu
version=$1
shift
[ $# -gt 0 ] || set -- tests/quic tests/client tests/interop
base=$(cd "$(dirname "$0")/.." && pwd)/.venv
other=$base/aioquic-$version
python=$other/bin/python
if ! "$python" -c "import aioquic; assert aioquic.__version__ == '$version', aioquic.__version__" 2>/dev/null; then
    rm -rf "$other"
    "$base/bin/python" -m venv "$other" || "$base/bin/python" -m virtualenv --quiet "$other"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps "aioquic==$version"
    packages=$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "import site; site.addsitedir('$packages')" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/all-else.pth"
fi
"$python" -c "import aioquic, gateway; print('aioquic', aioquic.__version__, 'under', gateway.__file__)"
exec "$python" -m pytest "$@"
