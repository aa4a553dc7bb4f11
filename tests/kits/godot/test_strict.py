"""The Godot kit compiles in the real engine with every warning an error."""

from __future__ import annotations

from pathlib import Path

from tests.kits.abilities import proves
from tests.kits.godot.engine import KIT, running

BODY = """
func run() -> void:
	for path: String in OS.get_cmdline_user_args():
		var script: GDScript = load(path)
		say("script", [path, script != null and script.can_instantiate()])
"""


@proves("godot", "typed")
async def test_every_script_of_the_kit_compiles_without_a_warning(project: Path) -> None:
    paths = [*(project / "addons").rglob("*.gd"), *(project / "avatars").rglob("*.gd")]
    scripts = [f"res://{path.relative_to(project)}" for path in sorted(paths)]
    assert "res://addons/mvgateway/mvgateway.gd" in scripts
    async with running(project, BODY, "--", *scripts) as engine:
        for path in scripts:
            assert await engine.said("script") == [path, True], "".join(engine.output)


async def test_a_warning_would_be_seen(project: Path) -> None:
    untidy = project / "addons" / "untidy.gd"
    untidy.write_text("extends Node\n\n\nfunc f():\n\tvar x = 3\n")
    try:
        async with running(project, BODY, "--", "res://addons/untidy.gd") as engine:
            assert await engine.said("script") == ["res://addons/untidy.gd", False]
    finally:
        untidy.unlink()


def test_the_single_file_is_where_it_always_was() -> None:
    assert (KIT / "mvgateway_udp.gd").read_bytes() == (
        KIT / "addons" / "mvgateway" / "mvgateway_udp.gd"
    ).read_bytes()
    assert (KIT / "mvgateway.gd").is_file()
