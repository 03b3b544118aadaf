"""The HTML report: well formed, whole in itself, and what it is told is what it says."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.visuals.html_report import Figure, Paragraph, Piece, Section, Table, Video, html_report

HOSTILE = """</p><script>alert("1")</script> & 'quotes' <img src=x onerror=y> é 日 &amp;"""
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of a page: its tags with their attributes, and the text within each kind of tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "tags that are never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text_in(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def page_of(*pieces: Piece, title: str = "Title", heading: str = "Heading", lead: str = "") -> Page:
    return Page(html_report(title, [Section(heading, pieces)], lead))


def noise(height: int = 12, width: int = 20) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def image_in(page: Page) -> Frame:
    [attributes] = page.attributes("img")
    kind, _, data = str(attributes["src"]).partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR))


def test_every_text_is_shown_as_it_is_and_never_becomes_markup() -> None:
    pieces: list[Piece] = [
        Paragraph(HOSTILE),
        Table([HOSTILE], [[HOSTILE]], HOSTILE),
        Figure(noise(), HOSTILE),
        Video("out.webm", HOSTILE),
    ]
    page = page_of(*pieces, title=HOSTILE, heading=HOSTILE, lead=HOSTILE)
    innocent = page_of(
        Paragraph("x"),
        Table(["x"], [["x"]], "x"),
        Figure(noise(), "x"),
        Video("out.webm", "x"),
        lead="x",
    )
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in innocent.tags]
    for tag in ("title", "h1", "h2", "p", "th", "td", "caption"):
        assert set(page.text_in(tag)) == {HOSTILE}, tag
    assert [text.strip() for text in page.text_in("figcaption")] == [HOSTILE, HOSTILE]
    assert page.attributes("img")[0]["alt"] == HOSTILE


def test_nothing_is_fetched_but_the_videos() -> None:
    page = page_of(Paragraph("x"), Table(["a"], [[1]]), Figure(noise(), "x"), Video("runs/out.webm"))
    links = [str(value) for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert [link for link in links if not link.startswith("data:")] == ["runs/out.webm", "runs/out.webm"]
    [style] = page.text_in("style")
    assert "url(" not in style
    assert "@import" not in style


def test_a_png_figure_holds_the_very_pixels() -> None:
    assert np.array_equal(image_in(page_of(Figure(noise()))), noise())


def test_a_jpeg_figure_is_smaller_and_looks_the_same() -> None:
    photograph = cv2.GaussianBlur(cv2.resize(noise(), (400, 240)), (0, 0), 5)
    sizes = {}
    for encoding in ("png", "jpeg"):
        page = page_of(Figure(photograph, encoding=encoding))  # type: ignore[arg-type]  # mypy widens the loop's name
        sizes[encoding] = len(str(page.attributes("img")[0]["src"]))
        assert np.abs(image_in(page).astype(int) - photograph).mean() < 3  # grey levels; JPEG at its default quality
    assert sizes["jpeg"] < sizes["png"]


@pytest.mark.parametrize(
    "path",
    [
        "out.webm",
        "runs/my demo/out.webm",
        "a\"b'c<d>&e.webm",
        "100%.webm",
        "日.webm",
        "javascript:alert(1)",
        "a#b?c.webm",
    ],
)
def test_a_video_is_linked_as_a_path_whatever_is_in_its_name(path: str) -> None:
    page = page_of(Video(path))
    for link in (page.attributes("video")[0]["src"], page.attributes("a")[0]["href"]):
        parts = urlsplit(str(link))
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert unquote(parts.path) == path
    assert page.text_in("a") == [path]


def test_a_table_keeps_its_cells_in_order() -> None:
    page = page_of(Table(["engine", "ms"], [["ort", 12.5], ["ov", 7]]))
    assert page.text_in("th") == ["engine", "ms"]
    assert page.text_in("td") == ["ort", "12.5", "ov", "7"]


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        (["1", "-2.5", "1,024"], True),
        (["12.3 ms", "+0.1 %", "93%", "1.4x", "-"], True),
        ([3, 0.25, 1e-6], True),
        (["yowo.onnx", "1"], False),
        (["2D", "3D"], False),
        (["224 x 224"], False),
        ([""], False),
        ([], False),
    ],
)
def test_columns_of_numbers_are_aligned_to_the_right(cells: list[object], right: bool) -> None:
    page = page_of(Table(["name", "value"], [["a", cell] for cell in cells]))
    classes = [attributes.get("class") for tag in ("th", "td") for attributes in page.attributes(tag)]
    assert classes == [None, "number" if right else None] * (1 + len(cells))


def test_a_row_that_does_not_fit_its_headers_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells, expected 2"):
        Table(["a", "b"], [[1, 2], [3]])


def test_a_blank_line_parts_paragraphs() -> None:
    assert page_of(Paragraph("one\nstill one\n\ntwo\n \nthree")).text_in("p") == ["one\nstill one", "two", "three"]


def test_sections_and_pieces_keep_their_order() -> None:
    page = Page(html_report("T", [Section("A", [Paragraph("1"), Table(["2"], [])]), Section("B", [Paragraph("3")])]))
    assert [text for tag, text in page.texts if tag in ("h2", "p", "th")] == ["A", "1", "2", "B", "3"]


def test_a_report_of_nothing_is_still_a_page() -> None:
    page = Page(html_report("Nothing", []))
    assert page.text_in("h1") == ["Nothing"]
    assert page.attributes("p") == []
