"""One archive for this platform, run without Python, pip, root or network: ``python .ci/dist.py [FOLDER]`` (``make dist``).

It holds the interpreter that runs this script with its standard library, the shared libraries that it was linked with (not the C
library's), the packages that a gateway needs as they are installed here, the gateway itself, kits, docs, unit, configuration and
checksums. Nothing is downloaded. The same tree gives the same archive, byte for byte.
"""

from __future__ import annotations

import compileall
import gzip
import hashlib
import importlib.metadata
import io
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("archive",)
"""Of pyproject's optional dependencies those that go with it: archives in folders. S3 and columns for other programs take 200 MB."""
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
NOT_OF_THE_LIBRARY = {
    *(
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "lib2to3",
        "ensurepip",
        "pydoc_data",
        "site-packages",
    ),
    *("dist-packages", "__pycache__", "turtle.py", "venv", "distutils"),
}
MODULES_LEFT_OUT = re.compile(r"_tkinter|_test|xx|nis\.|readline|_curses|_dbm|_gdbm|ossaudiodev|_ctypes_test")
"""Extension modules that want libraries of a desktop, or are for Python's own tests."""
OF_THE_SYSTEM = re.compile(r"^(ld-linux|lib(c|m|dl|rt|util|pthread|resolv|nsl|anl)\.so)")
"""The C library is the system's: it belongs to the kernel and to /etc."""
LAUNCHER = """#!/bin/sh
# Runs the gateway with the Python beside it, wherever this folder stands.
here=$(CDPATH= cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
unset PYTHONHOME PYTHONSTARTUP PYTHONINSPECT
export PYTHONPATH="$here/packages" PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH="$here/runtime/lib"
exec "$here/runtime/bin/@PYTHON@" -c '@MAIN@' "$0" "$@"
"""
MAIN = "import sys; sys.argv[0] = sys.argv.pop(1); from gateway.cli import main; sys.exit(main())"
READ_ME = """mvgateway @VERSION@ for @PLATFORM@

  ./mvgateway demo             everything once, with a crash in the middle
  ./mvgateway serve            a gateway; then, in another terminal:
  ./mvgateway publish plaza
  ./mvgateway recover plaza

  docs/README.md               by what you want to do
  kits/                        for Godot, browsers, Elixir and Python
  etc/                         a systemd unit and the configuration that it names, for this folder as /opt/mvgateway
  licences/                    of the libraries beside it; packages have theirs in packages/*.dist-info
  sha256sum -c SHA256SUMS      whether everything is as it was packed

It brings its own Python and needs the C library of this machine only: @LIBC@ or newer.
"""


def name() -> str:
    """``mvgateway-VERSION-SYSTEM-MACHINE``."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "gateway" / "__init__.py").read_text())
    assert version is not None
    return f"mvgateway-{version[1]}-{sys.platform}-{platform.machine()}"


def distributions() -> dict[str, importlib.metadata.Distribution]:
    """What a gateway needs, by name: those that pyproject names, those that they name, and so on."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(w for e in EXTRAS for w in project["optional-dependencies"][e])]
    waiting, found = [Requirement(line) for line in wanted], {}
    while waiting:
        asked = waiting.pop()
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        installed = importlib.metadata.distribution(asked.name)
        waiting += list(_needs(installed, asked.extras))
        found[installed.metadata["Name"].lower()] = installed
    return found


def _needs(installed: importlib.metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    for line in installed.requires or ():
        needed = Requirement(line)
        chosen = [{"extra": extra} for extra in ("", *extras)]
        if needed.marker is None or any(needed.marker.evaluate(one) for one in chosen):
            needed.marker = None
            if needed.name.lower() != installed.metadata["Name"].lower():
                yield needed


def build(folder: Path) -> Path:
    """Make the archive in ``folder``, and a file with its checksum beside it; answers its path."""
    tree = folder / name()
    shutil.rmtree(tree, ignore_errors=True)
    copy_runtime(tree / "runtime")
    copy_packages(tree / "packages")
    copy_libraries(tree)
    copy_papers(tree)
    compileall.compile_dir(
        tree, quiet=1, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    write_checksums(tree)
    archive = pack(tree, folder / f"{tree.name}.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")
    shutil.rmtree(tree)
    return archive


def copy_runtime(runtime: Path) -> None:
    """The interpreter, its library, and that library's extension modules."""
    (runtime / "bin").mkdir(parents=True)
    binary = runtime / "bin" / PYTHON
    shutil.copy2(os.path.realpath(sys.executable), binary)
    _strip(binary)
    library, extensions = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_config_var("DESTSHARED"))

    def left_out(where: str, names: list[str]) -> set[str]:
        return {
            n
            for n in names
            if n in NOT_OF_THE_LIBRARY or n.startswith("config-") or MODULES_LEFT_OUT.match(n)
        }

    there = runtime / "lib" / PYTHON
    shutil.copytree(library, there, ignore=left_out, symlinks=False)
    if not (there / "lib-dynload").is_dir():
        shutil.copytree(extensions, there / "lib-dynload", ignore=left_out)


def copy_packages(packages: Path) -> None:
    """The gateway from this checkout, and what it needs from this environment; scripts and their tests stay here."""
    for distribution in distributions().values():
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".pyc":
                continue
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), target)
    for line in _git("ls-files", "-z", "gateway").split("\0"):
        if line:
            (packages / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / line, packages / line, follow_symlinks=False)


def copy_libraries(tree: Path) -> None:
    """What the binaries were linked with, but for the C library, into the runtime's folder."""
    folder = tree / "runtime" / "lib"
    binaries = [tree / "runtime" / "bin" / PYTHON, *tree.rglob("*.so"), *tree.rglob("*.so.*")]
    for binary in binaries:
        said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        for library, path in re.findall(r"^\s+(\S+) => (/\S+)", said, re.MULTILINE):
            if OF_THE_SYSTEM.match(library) or Path(path).is_relative_to(tree):
                continue
            if not (folder / library).exists():
                shutil.copy2(os.path.realpath(path), folder / library)
                _strip(folder / library)
                copy_licence(library, Path(path), tree / "licences")


def copy_licence(library: str, path: Path, folder: Path) -> None:
    """What the system's package of a library says of its copyright, where it has packages that we know how to ask."""
    folder.mkdir(exist_ok=True)
    owner = ""
    for asked in (path, Path(os.path.realpath(path)), Path("/usr", *path.parts[1:])):
        if not owner and shutil.which("dpkg"):
            said = subprocess.run(["dpkg", "-S", asked], capture_output=True, text=True, check=False).stdout
            owner = said.partition(":")[0]
    told = Path("/usr/share/doc", owner, "copyright")
    if owner and told.is_file():
        shutil.copy2(told, folder / f"{library}.txt")


def copy_papers(tree: Path) -> None:
    """Launcher, docs, kits, unit, configuration, licences."""
    (tree / "licences").mkdir(exist_ok=True)
    python = next(tree.glob("runtime/lib/python*/LICENSE.txt"), None)
    if python is not None:
        shutil.copy2(python, tree / "licences" / "python.txt")
    launcher = tree / "mvgateway"
    launcher.write_text(LAUNCHER.replace("@PYTHON@", PYTHON).replace("@MAIN@", MAIN))
    launcher.chmod(0o755)
    words = {"@VERSION@": name().split("-")[1], "@PLATFORM@": f"{sys.platform} on {platform.machine()}"}
    words["@LIBC@"] = os.confstr("CS_GNU_LIBC_VERSION") or "the same"
    text = READ_ME
    for word, meant in words.items():
        text = text.replace(word, meant)
    (tree / "README.txt").write_text(text)
    for line in _git("ls-files", "-z", "docs", "README.md", "CHANGELOG.md", "LICENSE").split("\0"):
        if line:
            (tree / line).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / line, tree / line)
    (tree / "kits").symlink_to("packages/gateway/clients")
    (tree / "etc").mkdir()
    operating = ROOT / "docs" / "operating"
    shutil.copy2(operating / "mvgateway.toml", tree / "etc")
    (tree / "etc" / "mvgateway.service").write_text(unit((operating / "mvgateway.service").read_text()))


def unit(text: str) -> str:
    """The unit for this folder as ``/opt/mvgateway``: the program stands at its top."""
    return text.replace("/opt/mvgateway/bin/mvgateway", "/opt/mvgateway/mvgateway")


def write_checksums(tree: Path) -> None:
    """Of every file, as ``sha256sum -c`` reads them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink() and "kits" not in path.relative_to(tree).parts[:1]
    ]
    (tree / "SHA256SUMS").write_text("".join(lines))


def pack(tree: Path, archive: Path) -> Path:
    """In order of names, of nobody, as old as the commit."""
    made_at = int(_git("log", "-1", "--format=%ct").strip())
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in [tree, *sorted(tree.rglob("*"))]:
            if "kits" in path.relative_to(tree).parts[:1] and not path.is_symlink():
                continue
            info = tar.gettarinfo(path, str(path.relative_to(tree.parent)))
            info.mtime, info.uid, info.gid, info.uname, info.gname = made_at, 0, 0, "", ""
            info.mode = 0o777 if info.issym() else 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    archive.write_bytes(gzip.compress(raw.getvalue(), compresslevel=6, mtime=made_at))
    return archive


def _strip(binary: Path) -> None:
    """Without what debuggers want, where there is a tool for it."""
    if shutil.which("strip"):
        binary.chmod(0o755)
        subprocess.run(["strip", "--strip-unneeded", binary], capture_output=True, check=False)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve()
    target.mkdir(parents=True, exist_ok=True)
    made = build(target)
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB")
