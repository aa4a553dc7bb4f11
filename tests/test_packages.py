"""What is installed: one name at the top, types for those who use it, and for a client no package of a server."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.kits.abilities import proves
from tests.patience import HANG_S

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "gateway" / "clients" / "python"
USER = """
from gateway.client import Publisher, Subscriber

def sends(server: Publisher) -> None:
    server.send({1: b"bytes"}, keyframe=True)
    server.send({1: "words"})

reveal_type(Subscriber.records)
"""


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=]", requirement)[0]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of the gateway and the one of the client, by their names."""
    out = tmp_path_factory.mktemp("wheels")
    for folder in (ROOT, CLIENT):
        argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=2 * HANG_S)
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


@pytest.mark.parametrize("name", ["mvgateway", "mvgateway_client"])
def test_a_wheel_installs_one_name_with_its_types_and_nothing_else(
    wheels: dict[str, Path], name: str
) -> None:
    files = zipfile.ZipFile(wheels[name]).namelist()
    tops = {file.split("/")[0] for file in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gateway"}
    assert "gateway/py.typed" in files
    assert not [file for file in files if "__pycache__" in file]


def test_both_wheels_hold_the_same_modules(wheels: dict[str, Path]) -> None:
    full, client = (
        {file for file in zipfile.ZipFile(wheels[name]).namelist() if file.startswith("gateway/")}
        for name in ("mvgateway", "mvgateway_client")
    )
    assert full == client


def test_the_clients_packages_are_the_gateways_without_those_of_a_server() -> None:
    full = project(ROOT)
    server = full["optional-dependencies"]["server"]
    assert set(server) < set(full["dependencies"])
    assert set(project(CLIENT)["dependencies"]) == set(full["dependencies"]) - set(server)


def without(packages: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a Python that has none of ``packages``."""
    blind = f"""
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
"""
    argv = [sys.executable, "-c", blind + code]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=2 * HANG_S, check=False)


def servers_packages() -> list[str]:
    """Less those that packages of the client bring: httpx has h11 and h2."""
    wanted = project(ROOT)["optional-dependencies"]["server"]
    return sorted({name_of(requirement) for requirement in wanted} - {"h11", "h2"})


def test_everything_that_the_client_offers_is_imported_without_a_package_of_the_server() -> None:
    code = "import gateway.client as c\nfor name in c.__all__: getattr(c, name)\nprint(len(c.__all__))"
    ran = without(servers_packages(), code)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 10


@pytest.mark.parametrize("verb", ["serve", "store", "demo"])
def test_a_verb_without_its_packages_names_one_and_what_brings_it(verb: str, tmp_path: Path) -> None:
    words = [verb, *(["--path", str(tmp_path)] if verb == "store" else [])]
    ran = without(servers_packages(), f"from gateway.cli import main\nsys.exit(main({words!r}))")
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    assert re.search(r"needs the package \w+, which is not installed: `pip install mvgateway`", ran.stderr)


def test_the_verb_that_measures_says_where_it_can_be_run() -> None:
    ran = without(["bench"], "from gateway.cli import main\nsys.exit(main(['bench']))")
    assert ran.returncode == 2
    assert "in a checkout of mvgateway" in ran.stderr


@proves("python", "typed")
def test_mypy_sees_our_types_from_a_project_of_a_user(wheels: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    zipfile.ZipFile(wheels["mvgateway_client"]).extractall(site)
    (tmp_path / "user.py").write_text(USER)
    argv = [sys.executable, "-m", "mypy", "--python-executable", str(tmp_path / "venv" / "bin" / "python")]
    ran = subprocess.run(
        [*argv, "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * HANG_S,
        check=False,
    )
    assert "import-untyped" not in ran.stdout
    assert 'user.py:6: error: Dict entry 0 has incompatible type "int": "str"' in ran.stdout
    assert "Found 1 error" in ran.stdout, ran.stdout
