"""One self-contained HTML page of text, tables, pictures and videos."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    page = _ENVIRONMENT.get_template("report.html.jinja")
    return page.render(title=title, lead=lead, sections=shown)


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


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals |= {"paragraphs": _paragraphs, "numeric": _numeric, "data_uri": _data_uri, "quote": quote}
