"""The archive to take home: what goes into it, and (``make dist``) unpacked where there is no Python, no root and no network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
NOBODY = 65_534
PLAYED = """
set -e
under_way() {  # FILE WORD: until the word stands in the file
  for _ in $(seq 1200); do grep -q "$2" "$1" && return; sleep 0.05; done
  echo "never said $2:"; cat "$1"; exit 1
}
cd "$HOME"
"$HERE/mvgateway" serve >first 2>&1 & gateway=$!
under_way first ready
"$HERE/mvgateway" publish plaza --seconds 2
kill -9 $gateway
"$HERE/mvgateway" serve >second 2>&1 & gateway=$!
under_way second ready
"$HERE/mvgateway" recover plaza
"$HERE/mvgateway" archive plaza "$HOME/kept"
kill $gateway; wait $gateway
"$HERE/mvgateway" demo --seconds 4
"""


@pytest.fixture(scope="module")
def dist() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dist", ROOT / ".ci" / "dist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_archive_holds_what_a_gateway_needs_and_nothing_of_its_makers(dist: ModuleType) -> None:
    names = set(dist.distributions())
    assert {"aioquic", "apsw", "uvloop", "rich", "cffi", "h2", "fsspec", "starlette"} <= names
    assert not {"hatchling", "pytest", "mypy", "numpy", "ruff", "pip", "s3fs"} & names


def test_the_launcher_is_a_shell_script_that_names_its_own_python(dist: ModuleType, tmp_path: Path) -> None:
    dist.copy_papers(tmp_path)
    launcher = tmp_path / "mvgateway"
    assert os.access(launcher, os.X_OK)
    subprocess.run(["sh", "-n", launcher], check=True)
    assert not re.search(r"@\w+@", launcher.read_text() + (tmp_path / "README.txt").read_text())
    python = tmp_path / "runtime" / "bin" / dist.PYTHON
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PYTHONPATH|$PYTHONSAFEPATH|$LD_LIBRARY_PATH|$3|$4|$5"\n')
    python.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mvgateway").symlink_to(launcher)
    for called in (launcher, tmp_path / "bin" / "mvgateway"):
        said = subprocess.run(
            [called, "publish", "a b"], env={"PYTHONHOME": "/x"}, capture_output=True, text=True, check=True
        )
        here = tmp_path.resolve()
        assert said.stdout.strip() == f"{here}/packages|1|{here}/runtime/lib|{called}|publish|a b"


def test_docs_kits_unit_and_configuration_go_with_it(dist: ModuleType, tmp_path: Path) -> None:
    dist.copy_papers(tmp_path)
    assert "ExecStart=/opt/mvgateway/mvgateway serve" in (tmp_path / "etc/mvgateway.service").read_text()
    assert (tmp_path / "etc/mvgateway.toml").is_file()
    assert (tmp_path / "docs/README.md").is_file()
    assert os.readlink(tmp_path / "kits") == "packages/gateway/clients"


def test_the_same_tree_gives_the_same_archive(dist: ModuleType, tmp_path: Path) -> None:
    for copy in ("one", "two"):
        tree = tmp_path / copy / "mvgateway"
        (tree / "docs").mkdir(parents=True)
        (tree / "docs/a.md").write_text("a")
        (tree / "mvgateway").write_text("#!/bin/sh\n")
        (tree / "mvgateway").chmod(0o700)
        (tree / "kits").symlink_to("docs")
        dist.write_checksums(tree)
        os.utime(tree / "docs/a.md", (1, len(copy)))
    made = [
        dist.pack(tmp_path / n / "mvgateway", tmp_path / f"{n}.tar.gz").read_bytes() for n in ("one", "two")
    ]
    assert made[0] == made[1]
    assert (tmp_path / "one/mvgateway/SHA256SUMS").read_text().splitlines() == [
        f"{hashlib.sha256(b'a').hexdigest()}  docs/a.md",
        f"{hashlib.sha256(b'#!/bin/sh' + bytes([10])).hexdigest()}  mvgateway",
    ]
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes["mvgateway/mvgateway"] == 0o755
    assert modes["mvgateway/docs/a.md"] == 0o644


# -- the whole archive, where MVGATEWAY_DIST names it --


@pytest.fixture(scope="module")
def unpacked() -> Iterator[Path]:
    """The archive's folder, where others may read it."""
    archive = os.environ.get("MVGATEWAY_DIST")
    if not archive:
        pytest.skip("`make dist` makes an archive, and tries it by this test")
    with tempfile.TemporaryDirectory(prefix="mvgateway-dist-") as folder:
        os.chmod(folder, 0o755)
        subprocess.run(["tar", "-xzf", ROOT / archive, "-C", folder], check=True)
        (tree,) = Path(folder).iterdir()
        yield tree


def test_every_file_is_as_its_checksum_says(unpacked: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=unpacked, check=True)


def test_no_binary_wants_a_library_that_is_not_beside_it_or_the_systems_own(unpacked: Path) -> None:
    allowed = re.compile(r"linux-vdso|ld-linux|lib(c|m|dl|rt|util|pthread|resolv)\.so")
    beside = {path.name for path in (unpacked / "runtime/lib").iterdir()}
    for binary in [*unpacked.rglob("*.so"), *unpacked.glob("runtime/bin/python*")]:
        needed = subprocess.run(["readelf", "-d", binary], capture_output=True, text=True, check=False).stdout
        names = re.findall(r"\(NEEDED\).*\[(.+)\]", needed)
        bundled = {path.name for path in binary.parent.glob("*.so*")} | {
            path.name for path in unpacked.glob("packages/*.libs/*")
        }
        assert not [n for n in names if not allowed.match(n) and n not in beside | bundled], binary


@pytest.mark.timeout(PATIENCE_S + 30)
def test_it_serves_publishes_recovers_and_plays_the_demo_without_python_root_or_network(
    unpacked: Path,
) -> None:
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("a network of its own and another user are root's to give")
    with tempfile.TemporaryDirectory(prefix="mvgateway-home-") as home:
        os.chown(home, NOBODY, NOBODY)
        (Path(home) / "bin").mkdir()
        for tool in ("sh", "readlink", "dirname", "grep", "seq", "sleep", "cat"):  # and no Python among them
            (Path(home) / "bin" / tool).symlink_to(str(shutil.which(tool)))
        words = ["env", "-i", f"HOME={home}", f"HERE={unpacked}", f"PATH={home}/bin"]
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
        alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        done = subprocess.run(
            [*alone, *as_nobody, "sh", "-c", PLAYED],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads((Path(home) / "kept" / "manifest.json").read_text())["world"] == "plaza"
    assert "records   10, 1000 bytes" in done.stdout
    assert "byte for byte equal to what was sent" in done.stdout
    assert f"{unpacked}/mvgateway serve" in done.stdout, "the next steps name the program that was called"
    assert "Traceback" not in done.stdout + done.stderr
