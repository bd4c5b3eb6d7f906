"""One HTML page that holds everything in itself, pictures too: it opens anywhere, by mail too."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px;
       padding: 0 1em; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; }
h3 { margin: 1.4em 0 .4em; font-size: 1em; }
p { max-width: 75ch; } code { background: #f3f3f3; padding: 0 .25em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .8em; border-bottom: 1px solid #e4e4e4; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; vertical-align: top; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; width: 176px; font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; }
figure small { color: #777; font-size: 11px; }
figure img { display: block; width: 176px; height: 176px; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of parts made below."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph; words between backquotes are set as code."""
    pieces = escape(text).split("`")
    marked = [f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces)]
    return f"<p>{''.join(marked)}</p>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def image(content: bytes, kind: str, told: str) -> str:
    """A picture in the page itself; `kind` is png or jpeg."""
    coded = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{kind};base64,{coded}" alt="{escape(told)}">'


class Tile(NamedTuple):
    """A small picture with words below."""

    jpeg: bytes
    told: Sequence[str]  # lines; the first is the one to read
    name: str
    path: Path  # shown by the mouse


def tiles(pictures: Iterable[Tile]) -> str:
    """Tiles side by side."""
    figures = []
    for tile in pictures:
        first, *more = map(escape, tile.told)
        lines = [f"<b>{first}</b>", *more, f"<small>{escape(tile.name)}</small>"]
        figures.append(
            f'<figure title="{escape(str(tile.path))}">{image(tile.jpeg, "jpeg", tile.name)}'
            f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
        )
    return '<div class="tiles">' + "\n".join(figures) + "</div>"
