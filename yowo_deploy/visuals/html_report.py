"""One HTML page that stands alone: text, tables, pictures, a link to a video. Knows HTML; nothing of models."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import cv2

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
    intro = f'<p class="lead">{html.escape(lead)}</p>' if lead else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{intro}\n"
        + "\n".join(_section(section) for section in sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    pieces = "\n".join(_piece(piece) for piece in section.pieces)
    return f"<section>\n<h2>{html.escape(section.heading)}</h2>\n{pieces}\n</section>"


def _piece(piece: Piece) -> str:
    match piece:
        case Paragraph(text):
            return "\n".join(f"<p>{html.escape(part)}</p>" for part in re.split(r"\n\s*\n", text))
        case Table():
            return _table(piece)
        case Figure(_, caption):
            return _captioned(f'<img src="{_data_uri(piece)}" alt="{html.escape(caption)}">', caption)
        case Video(path, caption):
            # Quoted as a path: a ":" cannot make it an address or a script.
            source = html.escape(quote(path))
            player = f'<video src="{source}" controls loop muted playsinline preload="metadata"></video>'
            return _captioned(player, caption, f'<a href="{source}">{html.escape(path)}</a>')


def _table(table: Table) -> str:
    texts = [[str(cell) for cell in row] for row in table.rows]
    numeric = [bool(texts) and all(_is_number(row[column]) for row in texts) for column in range(len(table.headers))]
    head = _row("th", table.headers, numeric)
    body = "\n".join(_row("td", row, numeric) for row in texts)
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    return f'<div class="wide"><table>{caption}\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> str:
    classes = (' class="number"' if right else "" for right in numeric)
    inner = "".join(f"<{tag}{css}>{html.escape(cell)}</{tag}>" for cell, css in zip(cells, classes, strict=True))
    return f"<tr>{inner}</tr>"


def _is_number(text: str) -> bool:
    """Whether a cell reads as a number, "12.3 ms" and "-" among them."""
    return re.fullmatch(r"[-–—]|[-+−±]?\d[\d.,e+-]*(\s\S{1,6}|[%x×])?", text) is not None


def _data_uri(figure: Figure) -> str:
    _, encoded = cv2.imencode({"png": ".png", "jpeg": ".jpg"}[figure.encoding], figure.image_bgr)
    return f"data:image/{figure.encoding};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def _captioned(medium: str, caption: str, link: str = "") -> str:
    below = " ".join(part for part in (html.escape(caption), link) if part)
    return f"<figure>{medium}" + (f"<figcaption>{below}</figcaption>" if below else "") + "</figure>"


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
