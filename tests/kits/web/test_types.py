"""The web kit is an npm package whose types say what it does: checked by tsc, and against what is exported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.client.test_dropins import output_of, program
from tests.kits.abilities import proves
from tests.kits.web.test_vectors import KIT


@proves("web", "typed")
async def test_what_a_user_writes_is_checked_by_the_types(tmp_path: Path) -> None:
    home = tmp_path / "node_modules" / "mvgateway"
    shutil.copytree(KIT, home)
    shutil.copy(Path(__file__).with_name("types.ts"), tmp_path / "types.ts")
    options = {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "noImplicitReturns": True,
        "exactOptionalPropertyTypes": True,
        "target": "es2022",
        "module": "es2022",
        "moduleResolution": "node",
        "lib": ["es2022", "dom"],
        "types": [],
        "noEmit": True,
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["types.ts"]}))
    await output_of(program("tsc"), "-p", str(tmp_path))


async def test_each_class_and_function_that_is_exported_has_a_type_and_each_type_is_there() -> None:
    script = f"import * as kit from {json.dumps((KIT / 'mvgateway.js').as_uri())}; console.log(JSON.stringify(Object.keys(kit)))"
    exported = set(json.loads(await output_of(program("node"), "--input-type=module", "-e", script)))
    text = (KIT / "mvgateway.d.ts").read_text()
    typed = set(re.findall(r"^export (?:class|function) (\w+)", text, re.MULTILINE))
    assert typed - {"Emitter", "Link"} == exported


async def test_the_package_holds_what_its_modules_import_and_no_build_is_needed(tmp_path: Path) -> None:
    npm = program("npm")
    home = tmp_path / "web"
    shutil.copytree(KIT, home)
    told = json.loads(await output_of(npm, "pack", "--dry-run", "--json", str(home), "--offline"))
    packed = {file["path"] for file in told[0]["files"]}
    assert {"mvgateway.js", "mvgateway.d.ts", "worker.js", "README.md", "package.json"} <= packed
    for module in packed:
        if module.endswith(".js"):
            wanted = set(re.findall(r'(?:from |new URL\()"\./([\w.]+)"', (KIT / module).read_text()))
            assert wanted <= packed, module
    assert not told[0].get("bundled")
    assert "scripts" not in json.loads((KIT / "package.json").read_text())
