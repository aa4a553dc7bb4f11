"""The table of docs/CLIENTS.md, from what was seen to pass: ``python -m tests.kits.table`` writes it."""

from __future__ import annotations

from tests.kits.abilities import ABILITIES, KITS, NOTES, ROOT, results

PAGE = ROOT / "docs" / "CLIENTS.md"
BEGIN = "<!-- from tests/kits/results, by python -m tests.kits.table -->\n"
END = "<!-- end -->\n"


def table() -> str:
    """Lines of Markdown: what is shown by a test that passed, kit by kit."""
    lines = ["| | " + " | ".join(KITS.values()) + " |", "| --- " * (len(KITS) + 1) + "|"]
    shown = {kit: results(kit) for kit in KITS}
    for ability, words in ABILITIES.items():
        cells = [_cell(kit, ability, is_shown=bool(shown[kit].get(ability))) for kit in KITS]
        if any(cells):
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(kit: str, ability: str, *, is_shown: bool) -> str:
    note = NOTES.get((kit, ability), "")
    if is_shown:
        return f"yes; {note}" if note else "yes"
    return note if note.startswith("no ") else ""


def parts(page: str) -> tuple[str, str, str]:
    """The page before the table, the table, and after it."""
    before, rest = page.split(BEGIN)
    inside, after = rest.split(END)
    return before + BEGIN, inside, END + after


if __name__ == "__main__":
    before, _, after = parts(PAGE.read_text())
    PAGE.write_text(before + table() + after)
