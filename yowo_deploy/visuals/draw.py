"""Draw detections on frames, and arrange frames on a sheet."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.boxes import Detections
from yowo_deploy.postprocess.zones import Zone

Colour = tuple[int, int, int]
Corners = tuple[int, int, int, int]

# Okabe and Ito's colours, distinct with every common colour blindness; BGR, without their black and grey.
PALETTE: tuple[Colour, ...] = (
    (0, 159, 230),  # orange
    (233, 180, 86),  # sky blue
    (115, 158, 0),  # bluish green
    (66, 228, 240),  # yellow
    (178, 114, 0),  # blue
    (0, 94, 213),  # vermilion
    (167, 121, 204),  # reddish purple
)
_SHADES = (0.0, -0.4, 0.5)  # towards black or white, for the classes after the first seven, fourteen, ...

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_KNOWS_UNICODE = int(cv2.__version__.partition(".")[0]) >= 5  # OpenCV 4 draws "?" for each byte of UTF-8
LONGEST_NAME = 40  # letters of a class: a longer one condensed to the frame is a grey bar
_MIN_SCALE = 0.4  # of the font, the smallest that can be read
_WAYS = {"R": "R", "AL": "R", "WS": "N", "ON": "N", "NSM": "N"}  # Unicode's: from right to left, and neither
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_PAPER, _GAP = (250, 250, 250), 6


def draw(
    frame_bgr: Frame,
    detections: Detections,
    labels: Sequence[str],
    label_threshold: float | None = None,
    trails: Mapping[int, Float] | None = None,
) -> Frame:
    """A copy of the frame with every detection's box and its label, "walk 0.83", or "#3 walk 0.83" of person 3.

    Each person has a colour, `colour_of` its `tracker_id`; without one each class has. Lines and letters grow with the
    frame. Labels lie whole within the frame, above their box where there is room, and clear of each other where they
    can. Names are cut off after `LONGEST_NAME` letters. Characters that the font lacks become "?", and a name of such
    alone "class 3". Arabic and Hebrew stand from right to left, unjoined.

    Args:
        frame_bgr: (H, W, 3) uint8; it is not changed.
        detections: in pixels of this frame, best first: the boxes of better ones are drawn over the others'. A
            confidence of NaN is not written: ground truth has none.
        labels: names by class id.
        label_threshold: score above which a box has further labels, each on a line of its own; None: no others.
        trails: (F, 4) corners by person, the newest last: a line through their centres, in the person's colour.
    """
    canvas = frame_bgr.copy()
    frame_wh = (canvas.shape[1], canvas.shape[0])
    # Videos halve the resolution of colours: lines of an even width at even places stay in their colour.
    line = 2 * max(1, round(min(frame_wh) / 480))
    for person, way in (trails or {}).items():
        centres = np.rint((way[:, :2] + way[:, 2:]) / 2).astype(np.int32)
        cv2.polylines(canvas, [centres[:, None]], False, colour_of(person), line, cv2.LINE_AA)
    corners: list[Corners] = [tuple(box) for box in np.rint(detections.xyxy).astype(int).tolist()]
    ids = detections.class_id if detections.tracker_id is None else detections.tracker_id
    colours = [colour_of(each) for each in ids.tolist()]
    for box, colour in reversed(list(zip(corners, colours, strict=True))):
        _outline(canvas, box, colour, line)
    taken: list[Corners] = []
    for index, (box, colour) in enumerate(zip(corners, colours, strict=True)):
        label = _label(_texts(detections, index, labels, label_threshold), colour, frame_wh)
        left, top, right, bottom = place = _place(label, box, taken, frame_wh)
        canvas[top:bottom, left:right] = label
        taken.append(place)
    return canvas


def draw_zones(frame_bgr: Frame, zones: Sequence[Zone]) -> Frame:
    """A copy of the frame with the outline and the name of every zone, white on black, which no person is drawn in.

    Args:
        frame_bgr: (H, W, 3) uint8; it is not changed.
        zones: in shares of the frame.
    """
    canvas = frame_bgr.copy()
    frame_wh = (canvas.shape[1], canvas.shape[0])
    line = 2 * max(1, round(min(frame_wh) / 480))
    for zone in zones:
        corners = np.rint(np.array(zone.corners) * (frame_wh[0] - 1, frame_wh[1] - 1)).astype(np.int32)
        cv2.polylines(canvas, [corners[:, None]], True, _BLACK, 2 * line, cv2.LINE_AA)
        cv2.polylines(canvas, [corners[:, None]], True, _WHITE, line, cv2.LINE_AA)
    taken: list[Corners] = []
    for zone in zones:
        label = _label([zone.name], _WHITE, frame_wh)
        x, y = min(zone.corners, key=lambda corner: (corner[1], corner[0]))
        left, top = round(x * frame_wh[0]), round(y * frame_wh[1])
        left, top, right, bottom = place = _place(label, (left, top, left, top), taken, frame_wh)
        canvas[top:bottom, left:right] = label
        taken.append(place)
    return canvas


def colour_of(number: int) -> Colour:
    """The BGR colour of a class or person, always the same; 21 in a row differ, the first seven for colour-blind eyes
    too."""
    shade = _SHADES[number // len(PALETTE) % len(_SHADES)]
    end = 255 if shade > 0 else 0
    blue, green, red = (round(v + (end - v) * abs(shade)) for v in PALETTE[number % len(PALETTE)])
    return blue, green, red


def text_colour_on(background: Colour) -> Colour:
    """Black or white, whichever contrasts more with a BGR colour (WCAG 2.1, at least 4.5 to 1)."""
    blue, green, red = (_linear(channel / 255) for channel in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return _BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else _WHITE


def contact_sheet(
    images_bgr: Sequence[Frame], columns: int, captions: Sequence[str] = (), cell_width: int | None = None
) -> Frame:
    """Images in rows on light paper, each in a cell as large as the largest, with its caption below it.

    Args:
        images_bgr: (H, W, 3) uint8 each, of any sizes.
        columns: images in a row; the last row may be shorter.
        captions: none, or one an image; "" leaves its place empty.
        cell_width: scale every image to this width first; None keeps the sizes.

    Raises:
        ValueError: no image, no column, or not as many captions as images.
    """
    if not images_bgr or columns < 1 or (captions and len(captions) != len(images_bgr)):
        raise ValueError(f"{len(images_bgr)} images, {len(captions)} captions, {columns} columns do not make a sheet")
    images = [image if cell_width is None else _scaled(image, cell_width) for image in images_bgr]
    cells = [_captioned(*pair) for pair in zip(images, captions, strict=True)] if captions else images
    height, width = (max(cell.shape[side] for cell in cells) for side in (0, 1))
    rows, columns = math.ceil(len(cells) / columns), min(columns, len(cells))
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), _PAPER, np.uint8)
    for index, cell in enumerate(cells):
        top, left = (_GAP + i * (side + _GAP) for i, side in zip(divmod(index, columns), (height, width), strict=True))
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def _outline(canvas: Frame, box: Corners, colour: Colour, line: int) -> None:
    """Draw the sides of a box within it, moved outwards to even pixels."""
    x1, y1, x2, y2 = (max(0, side + side % 2 * way) for side, way in zip(box, (-1, -1, 1, 1), strict=True))
    x2, y2 = min(x2, canvas.shape[1]), min(y2, canvas.shape[0])
    canvas[y1:y2, x1 : x1 + line] = canvas[y1:y2, max(x1, x2 - line) : x2] = colour
    canvas[y1 : y1 + line, x1:x2] = canvas[max(y1, y2 - line) : y2, x1:x2] = colour


def _texts(detections: Detections, index: int, labels: Sequence[str], label_threshold: float | None) -> list[str]:
    """The lines of a label."""
    best, *others = detections.classes_above(index, label_threshold)
    person = "" if detections.tracker_id is None else f"#{detections.tracker_id[index]} "
    sure = detections.confidence[index]
    first = f"{person}{_named(labels, best)}" + ("" if np.isnan(sure) else f" {sure:.2f}")
    return [first, *(f"{_named(labels, each)} {detections.scores[index, each]:.2f}" for each in others)]


def _named(labels: Sequence[str], class_id: int) -> str:
    """A class as it is written on frames: names of question marks alone would all be the same."""
    name, drawn = labels[class_id], _drawable(labels[class_id])
    if drawn != name and not drawn.strip("? "):
        return f"class {class_id}"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _drawable(text: str) -> str:
    """The text with "?" for what cv2.putText has no glyph for, and in the order in which it draws, from the left."""
    known = (char.isascii() or (_KNOWS_UNICODE and _has_glyph(char)) for char in text)
    drawn = "".join(char if can and char.isprintable() else "?" for char, can in zip(text, known, strict=True))
    kinds = "".join(_WAYS.get(unicodedata.bidirectional(char), "L") for char in drawn)
    for run in re.finditer("R(?:[RN]*R)?", kinds):
        drawn = drawn[: run.start()] + drawn[run.start() : run.end()][::-1] + drawn[run.end() :]
    return drawn


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    """Whether OpenCV 5 draws a character otherwise than "?", which it puts for what its font lacks."""
    one, other = np.zeros((2, 32, 64), np.uint8)
    for canvas, text in ((one, char), (other, "?")):
        cv2.putText(canvas, text, (8, 24), _FONT, 0.6, 255, 1)
    return char == "?" or not np.array_equal(one, other)


def _label(texts: Sequence[str], background: Colour, frame_wh: tuple[int, int]) -> Frame:
    """A picture of the lines on their background, no larger than the frame; its font grows with the frame."""
    scale = max(_MIN_SCALE, min(frame_wh) / 900)
    lines = [_written(text, scale, background, frame_wh[0]) for text in texts]
    height, width = max(len(line) for line in lines), max(line.shape[1] for line in lines)
    image = np.full((len(lines) * height, width, 3), background, np.uint8)
    for number, line in enumerate(lines):
        image[number * height : number * height + len(line), : line.shape[1]] = line
    return image[: frame_wh[1]]


def _written(text: str, scale: float, background: Colour, width_limit: int) -> Frame:
    """A picture of one line of text, just large enough; too long a line is condensed to the limit."""
    text = _drawable(text)
    thickness = max(1, round(1.5 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = 1 + round(4 * scale)
    image = np.full((height + below + 2 * pad, width + 2 * pad, 3), background, np.uint8)
    cv2.putText(image, text, (pad, pad + height), _FONT, scale, text_colour_on(background), thickness, cv2.LINE_AA)
    if image.shape[1] <= width_limit:
        return image
    return np.asarray(cv2.resize(image, (width_limit, image.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)


def _place(label: Frame, box: Corners, taken: Sequence[Corners], frame_wh: tuple[int, int]) -> Corners:
    """Where a label goes: above its box, or below it, or in it; the first that hides no other label, if any."""
    height, width = label.shape[:2]
    x1, y1, _, y2 = box
    left = min(max(x1, 0), frame_wh[0] - width)
    tops = [min(max(top, 0), frame_wh[1] - height) for top in (y1 - height, y2, y1)]
    places = [(left, top, left + width, top + height) for top in tops]
    return next((place for place in places if not any(_meet(place, other) for other in taken)), places[0])


def _meet(one: Corners, other: Corners) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _linear(channel: float) -> float:
    """An sRGB channel, 0 to 1, as light."""
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)


def _scaled(image_bgr: Frame, width: int) -> Frame:
    size = (width, max(1, round(image_bgr.shape[0] * width / image_bgr.shape[1])))
    method = cv2.INTER_AREA if width < image_bgr.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_bgr, size, interpolation=method), np.uint8)


def _captioned(image_bgr: Frame, caption: str) -> Frame:
    """The image with a strip of paper below it that holds the caption."""
    written = _written(caption, 0.5, _PAPER, image_bgr.shape[1])
    strip = np.full((written.shape[0], image_bgr.shape[1], 3), _PAPER, np.uint8)
    strip[:, : written.shape[1]] = written
    return np.concatenate([image_bgr, strip])
