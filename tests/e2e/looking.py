"""What a page's picture shows: the colour at a record's place, and where records are drawn."""

from __future__ import annotations

from tests.e2e.browser import Page


async def pixels_at(page: Page, place: str) -> list[list[int]]:
    """Red, green, blue and opacity of the 25 pixels at ``place``, a script's [right, down] in CSS pixels of the canvas: a name may lie
    over one of them. The picture is drawn for it, of where everything is told to be: that of a moment shows what moved on its way."""
    flat: list[int] = await page.evaluate(
        f"""(() => {{
          stage.draw();
          const ratio = devicePixelRatio || 1, [right, down] = {place};
          return [...stage.pen.getImageData(Math.round(right * ratio) - 2, Math.round(down * ratio) - 2, 5, 5).data];
        }})()"""
    )
    return [flat[at : at + 4] for at in range(0, len(flat), 4)]


def has_colour(pixels: list[list[int]]) -> bool:
    """Whether one is of a mark: neither grey nor nothing."""
    return any(pixel[3] > 200 and max(pixel[:3]) - min(pixel[:3]) > 40 for pixel in pixels)


async def coloured(page: Page, key: int) -> bool:
    """Whether the canvas has a colour, and no grey, where the record is said to be."""
    return has_colour(await pixels_at(page, f"stage.placeOf({key})"))


async def places(page: Page, keys: list[int]) -> dict[int, list[float]]:
    """Where the records are drawn in a picture of where everything is told to be."""
    found = await page.evaluate(
        f"(() => {{ stage.draw(); return Object.fromEntries({keys}.map(key => [key, stage.placeOf(key)])); }})()"
    )
    return {int(key): place for key, place in found.items()}
