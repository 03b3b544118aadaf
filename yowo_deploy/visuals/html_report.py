"""One self-contained HTML page of text, tables, pictures and videos."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import cv2
from jinja2 import Environment, StrictUndefined

from yowo_deploy.arrays import Frame


@dataclass(frozen=True)
class Paragraph:
    """Text; a blank line starts a new paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under headers. Columns of numbers, with a unit or without, are aligned to the right.

    Raises:
        ValueError: a row that has not one cell for each header.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"row {list(row)} has {len(row)} cells, expected {len(self.headers)}")


@dataclass(frozen=True)
class Figure:
    """A picture within the page.

    Attributes:
        image_bgr: (H, W, 3) uint8.
        caption: below it, and what a screen reader says.
        encoding: "png" keeps drawings sharp, "jpeg" keeps photographs small.
    """

    image_bgr: Frame
    caption: str = ""
    encoding: Literal["png", "jpeg"] = "png"


@dataclass(frozen=True)
class Video:
    """A video file beside the page, played in it and linked.

    Attributes:
        path: relative to the page, with "/" between folders.
        caption: below it.
    """

    path: str
    caption: str = ""


Piece = Paragraph | Table | Figure | Video


@dataclass(frozen=True)
class Section:
    """Pieces under a heading."""

    heading: str
    pieces: Sequence[Piece]


def html_report(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """A whole HTML page that needs no network and, but for its videos, no other file.

    All text is escaped, so any string may be passed. The page follows the reader's light or dark setting; tables
    wider than the screen scroll within themselves.

    Args:
        title: of the page, and its first heading.
        sections: in order.
        lead: a sentence or two below the title.
    """
    shown = [(section.heading, [(type(piece).__name__, piece) for piece in section.pieces]) for section in sections]
    return _PAGE.render(title=title, lead=lead, sections=shown, style=_STYLE)


def _paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text)


def _numeric(table: Table) -> list[bool]:
    """Which columns hold numbers alone."""
    texts = [[str(cell) for cell in row] for row in table.rows]
    return [bool(texts) and all(_is_number(row[column]) for row in texts) for column in range(len(table.headers))]


def _is_number(text: str) -> bool:
    """Whether a cell reads as a number, "12.3 ms" and "-" among them."""
    return re.fullmatch(r"[-–—]|[-+−±]?\d[\d.,e+-]*(\s\S{1,6}|[%x×])?", text) is not None


def _data_uri(figure: Figure) -> str:
    _, encoded = cv2.imencode({"png": ".png", "jpeg": ".jpg"}[figure.encoding], figure.image_bgr)
    return f"data:image/{figure.encoding};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if lead %}<p class="lead">{{ lead }}</p>{% endif %}
{% macro row(tag, cells, numeric) -%}
<tr>{% for cell in cells %}<{{ tag }}{% if numeric[loop.index0] %} class="number"{% endif %}>{{ cell }}</{{ tag }}>
{%- endfor %}</tr>
{%- endmacro %}
{% for heading, pieces in sections %}
<section>
<h2>{{ heading }}</h2>
{% for kind, piece in pieces %}
{% if kind == "Paragraph" %}
{% for text in paragraphs(piece.text) %}<p>{{ text }}</p>
{% endfor %}
{% elif kind == "Table" %}
{% set columns = numeric(piece) %}
<div class="wide"><table>{% if piece.caption %}<caption>{{ piece.caption }}</caption>{% endif %}
<thead>{{ row("th", piece.headers, columns) }}</thead>
<tbody>
{% for cells in piece.rows %}{{ row("td", cells, columns) }}
{% endfor %}
</tbody></table></div>
{% elif kind == "Figure" %}
<figure><img src="{{ data_uri(piece) }}" alt="{{ piece.caption }}">
{%- if piece.caption %}<figcaption>{{ piece.caption }}</figcaption>{% endif %}</figure>
{% else %}
{# Quoted as a path: a ":" cannot make it an address or a script. #}
{% set source = quote(piece.path) %}
<figure><video src="{{ source }}" controls loop muted playsinline preload="metadata"></video>
<figcaption>{{ piece.caption }} <a href="{{ source }}">{{ piece.path }}</a></figcaption></figure>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2329; --soft: #5c6670; --line: #dde2e7; --shade: #f5f7f9;
  --link: #0b62a8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15191d; --ink: #e4e8ec; --soft: #9aa5b0; --line: #323a42; --shade: #1c2227; --link: #6db7f2; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.6;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.25; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; padding-top: 1.25rem;
  border-top: 1px solid var(--line); }
p { margin: .75rem 0; max-width: 42rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
a { color: var(--link); }
.wide { overflow-x: auto; margin: 1.25rem 0; }
table { border-collapse: collapse; font-size: .925rem; min-width: 50%; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { padding: .45rem .9rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th, td:first-child { white-space: nowrap; }
th { font-weight: 600; background: var(--shade); }
tbody tr:hover { background: var(--shade); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; }
img, video { display: block; max-width: 100%; height: auto; border-radius: 6px; border: 1px solid var(--line); }
video { width: 100%; max-height: 75vh; background: #000; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem; }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } video { display: none; } }
"""

_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.globals |= {"paragraphs": _paragraphs, "numeric": _numeric, "data_uri": _data_uri, "quote": quote}
_PAGE = _ENVIRONMENT.from_string(_TEMPLATE)
