"""Drawing: the input stays, labels stay whole and legible, and a sheet holds every image."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections
from yowo_deploy.visuals import draw as draw_module
from yowo_deploy.visuals.draw import PALETTE, Colour, colour_of, contact_sheet, draw, text_colour_on

WIDTH, HEIGHT = 320, 240
LABELS = ("walk", "sit_down")
MIDDLE_BOX = (120.0, 100.0, 180.0, 200.0)


def found(
    *boxes: tuple[float, float, float, float], tracker_id: int | None = None, confidence: float = 0.83
) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, confidence, np.float32),
        np.arange(count) % len(LABELS),
        np.zeros((count, len(LABELS)), np.float32),
        None if tracker_id is None else np.full(count, tracker_id),
    )


def grey(width: int = WIDTH, height: int = HEIGHT) -> Frame:
    return np.full((height, width, 3), 77, np.uint8)


def label_of(class_id: int = 0) -> Frame:
    """The label of a class as it looks above a box in the middle of the frame."""
    detections = found(MIDDLE_BOX)
    detections.class_id[0] = class_id
    above = draw(grey(), detections, LABELS)[: int(MIDDLE_BOX[1])]
    rows, columns = np.nonzero((above != 77).any(axis=2))
    return above[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def holds(image: Frame, part: Frame) -> bool:
    """Whether `part` is somewhere in `image`, pixel for pixel."""
    match = cv2.matchTemplate(image, part, cv2.TM_SQDIFF)  # not quite 0 where it fits, so the place is looked at
    top, left = np.unravel_index(int(match.argmin()), match.shape)
    return np.array_equal(image[top : top + part.shape[0], left : left + part.shape[1]], part)


def test_the_frame_that_was_given_stays_as_it_was() -> None:
    frame = grey()
    drawn = draw(frame, found(MIDDLE_BOX), LABELS)
    assert np.all(frame == 77)
    assert drawn.shape == frame.shape
    assert drawn.dtype == np.uint8


def test_without_detections_the_picture_is_an_equal_copy() -> None:
    frame = grey()
    drawn = draw(frame, Detections.empty(2), LABELS)
    assert np.array_equal(drawn, frame)
    assert not np.shares_memory(drawn, frame)


def test_a_box_is_outlined_in_the_colour_of_its_class_and_its_inside_is_left_alone() -> None:
    x1, y1, x2, y2 = (int(side) for side in MIDDLE_BOX)
    drawn = draw(grey(), found(MIDDLE_BOX), LABELS)
    for side in (drawn[y1:y2, x1], drawn[y1:y2, x2 - 1], drawn[y1, x1:x2], drawn[y2 - 1, x1:x2]):
        assert np.all(side == colour_of(0))
    assert np.all(drawn[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3] == 77)
    assert np.all(drawn[y2 + 3 :] == 77)


@pytest.mark.parametrize("x", [-20, 0, 100, WIDTH - 40, WIDTH - 2])
@pytest.mark.parametrize("y", [-20, 0, 5, 100, HEIGHT - 50, HEIGHT - 2])
def test_a_label_is_whole_at_every_border(x: int, y: int) -> None:
    assert holds(draw(grey(), found((x, y, x + 40, y + 50)), LABELS), label_of())


def test_two_labels_of_one_place_are_both_whole() -> None:
    for box in (MIDDLE_BOX, (0, 0, WIDTH, HEIGHT), (0, HEIGHT - 60, 60, HEIGHT)):
        drawn = draw(grey(), found(box, box), LABELS)
        assert holds(drawn, label_of(0))
        assert holds(drawn, label_of(1))


@pytest.mark.parametrize("width", [64, 100, 200])
def test_a_label_wider_than_the_frame_is_condensed_to_its_end(width: int) -> None:
    one, other = (
        draw(grey(width), found((0, 60, width, 200), confidence=confidence), ["a_very_long_name_of_an_action"] * 2)
        for confidence in (0.81, 0.88)
    )
    differ = np.nonzero((one != other).any(axis=(0, 2)))[0]
    assert len(differ) > 0
    assert differ.min() > 0.85 * width  # the last of its 34 characters


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (16, 16)])
def test_a_tiny_frame_is_drawn_on_all_the_same(width: int, height: int) -> None:
    drawn = draw(grey(width, height), found((0, 0, width, height)), LABELS)
    assert drawn.shape == (height, width, 3)
    assert (drawn != 77).any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-50, 400, width=32)] * 4), max_size=4))
def test_any_boxes_can_be_drawn_and_every_best_label_is_whole(boxes: list[tuple[float, float, float, float]]) -> None:
    drawn = draw(grey(), found(*boxes), LABELS)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert len(boxes) != 1 or holds(drawn, label_of())


def test_labels_grow_with_the_frame() -> None:
    heights = []
    for scale in (1, 4, 8):
        frame = grey(WIDTH * scale, HEIGHT * scale)
        box = tuple(scale * side for side in MIDDLE_BOX)
        drawn = draw(frame, found(box), LABELS)  # type: ignore[arg-type]  # four sides stay four
        heights.append(int((drawn[: int(box[1])] != 77).any(axis=(1, 2)).sum()))
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("lines", [320, 720, 2160])
@pytest.mark.parametrize("ground", [(0, 0, 255), (255, 255, 255), (0, 0, 0), (40, 160, 40)])
@pytest.mark.parametrize("shift", [0, 1])
def test_in_a_video_boxes_keep_their_colours_and_labels_their_contrast(lines: int, ground: Colour, shift: int) -> None:
    """After 4:2:0, which halves the resolution of colours. Its eight bits round a colour by 4 levels at most."""
    frame = np.full((lines, lines * 4 // 3, 3), ground, np.uint8)
    x1, y1, x2, y2 = (side * lines // 320 + shift for side in (100, 120, 200, 280))
    drawn = draw(frame, found((x1, y1, x2, y2), tracker_id=3), LABELS)
    video = cv2.cvtColor(cv2.cvtColor(drawn, cv2.COLOR_BGR2YUV_I420), cv2.COLOR_YUV2BGR_I420).astype(int)
    left, width = x1 - x1 % 2, 2 * max(1, round(lines / 480))
    assert np.abs(video[y1 + width : y2 - width, left : left + width] - colour_of(3)).max() <= 4
    changed = np.nonzero((drawn[: y1 - 2] != ground).any(axis=2))
    label = video[changed[0].min() : changed[0].max() + 1, changed[1].min() : changed[1].max() + 1]
    assert len(label) >= max(12, lines / 50)  # letters of eight pixels at least
    darkest, brightest = (find(label.mean(axis=2)) for find in (np.min, np.max))
    assert brightest - darkest > 90


def test_a_person_keeps_its_colour_whatever_it_does_and_others_have_others() -> None:
    def corner(tracker_id: int, class_id: int) -> list[int]:
        detections = found(MIDDLE_BOX, tracker_id=tracker_id)
        detections.class_id[0] = class_id
        return list(draw(grey(), detections, LABELS)[int(MIDDLE_BOX[3]) - 1, int(MIDDLE_BOX[0])])

    assert corner(5, 0) == corner(5, 1) == list(colour_of(5))
    assert corner(6, 0) != corner(5, 0)


def test_a_label_has_a_line_for_each_class_above_the_threshold() -> None:
    detections = found(MIDDLE_BOX)
    detections.scores[0] = [0.83, 0.6]
    one, two = (draw(grey(), detections, LABELS, threshold) for threshold in (0.7, 0.5))
    assert np.array_equal(one, draw(grey(), detections, LABELS))
    tall, short = ((drawn[: int(MIDDLE_BOX[1])] != 77).any(axis=(1, 2)).sum() for drawn in (two, one))
    assert tall == 2 * short


def test_a_trail_is_a_line_through_the_centres_in_the_colour_of_its_person() -> None:
    way = np.array([[10, 10, 30, 30], [100, 10, 120, 30], [200, 10, 220, 30]], np.float32)
    drawn = draw(grey(), Detections.empty(2), LABELS, trails={4: way, 5: way[:0]})
    assert (drawn[20, 22:208] == colour_of(4)).all()
    assert (drawn[:17] == 77).all() and (drawn[24:] == 77).all()


def test_a_person_is_named_by_its_number() -> None:
    plain, third, fourth = (draw(grey(), found(MIDDLE_BOX, tracker_id=person), LABELS) for person in (None, 3, 4))
    assert not np.array_equal(plain, third)
    assert not np.array_equal(third, fourth)
    inside = (slice(0, int(MIDDLE_BOX[1])), slice(0, int(MIDDLE_BOX[0] + 60)))
    named = draw(grey(), found(MIDDLE_BOX), ["#3 walk"])[inside]
    assert np.array_equal((third[inside] == 77).all(axis=2), (named == 77).all(axis=2))


@pytest.mark.parametrize(
    ("text", "knows_unicode", "shown"),
    [
        ("marché", False, "march?"),
        ("歩く", False, "class 0"),
        ("歩く 2", False, "?? 2"),
        ("?", False, "?"),
        ("a\nb\tc", False, "a?b?c"),
        ("a\nb\tc", True, "a?b?c"),
        ("sit ~{}", False, "sit ~{}"),
    ],
)
def test_what_the_font_lacks_is_a_question_mark(
    text: str, knows_unicode: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw_module, "_KNOWS_UNICODE", knows_unicode)
    one, other = (draw(grey(), found(MIDDLE_BOX), [name]) for name in (text, shown))
    assert np.array_equal(one, other)


@pytest.mark.skipif(not draw_module._KNOWS_UNICODE, reason="OpenCV 4 draws ASCII alone")
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["चलना", "हाथ हिलाना"], ["class 0", "class 1"]),  # no glyph of it is in OpenCV's font
        (["🏃", "👋"], ["class 0", "class 1"]),
        (["🏃 run", "走路"], ["? run", "走路"]),
    ],
)
def test_names_that_the_font_lacks_stay_apart(names: list[str], shown: list[str]) -> None:
    boxes = found(MIDDLE_BOX, (0.0, 100.0, 60.0, 200.0))
    assert np.array_equal(draw(grey(), boxes, names), draw(grey(), boxes, shown))


@pytest.mark.skipif(not draw_module._KNOWS_UNICODE, reason="OpenCV 4 draws ASCII alone")
@pytest.mark.parametrize(
    ("text", "drawn"),
    [("אבגד", "דגבא"), ("#3 אב גד 0.91", "#3 דג בא 0.91"), ("a אב", "a בא"), ("walk, run", "walk, run"), ("", "")],
)
def test_letters_from_right_to_left_are_drawn_so(text: str, drawn: str) -> None:
    """OpenCV draws a text's first letter first, at the left."""
    assert draw_module._drawable(text) == drawn


def test_a_long_name_is_cut_off_and_not_condensed_until_it_is_grey() -> None:
    boxes = found(MIDDLE_BOX)
    assert np.array_equal(draw(grey(), boxes, ["w" * 300]), draw(grey(), boxes, ["w" * 37 + "..."]))


def test_the_first_twenty_one_classes_differ_in_colour_and_colours_stay() -> None:
    colours = [colour_of(class_id) for class_id in range(21)]
    assert len(set(colours)) == 21
    assert min(np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(colours, 2)) >= 30
    assert colours[: len(PALETTE)] == list(PALETTE)
    assert colour_of(21) == colour_of(0)


@pytest.mark.parametrize(
    "background", [colour_of(class_id) for class_id in range(21)] + [(v, v, v) for v in range(0, 256, 15)]
)
def test_text_contrasts_with_any_background(background: Colour) -> None:
    def luminance(colour: Colour) -> float:
        channels = np.array(colour[::-1]) / 255
        return float(
            np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
            @ [0.2126, 0.7152, 0.0722]
        )

    low, high = sorted((luminance(background), luminance(text_colour_on(background))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def images(count: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20 + 3 * i, 30 + 5 * i, 3), np.uint8) for i in range(count)]


@pytest.mark.parametrize(("count", "columns", "grid"), [(1, 1, (1, 1)), (5, 2, (3, 2)), (4, 4, (1, 4)), (2, 9, (1, 2))])
@pytest.mark.parametrize("captioned", [False, True])
def test_a_sheet_holds_every_image_in_reading_order(
    count: int, columns: int, grid: tuple[int, int], captioned: bool
) -> None:
    cells = images(count)
    sheet = contact_sheet(cells, columns, [f"no {i}" for i in range(count)] if captioned else ())
    corners = []
    for cell in cells:
        match = cv2.matchTemplate(sheet, cell, cv2.TM_SQDIFF)
        top, left = np.unravel_index(int(match.argmin()), match.shape)
        assert np.array_equal(sheet[top : top + cell.shape[0], left : left + cell.shape[1]], cell)
        corners.append((int(top), int(left)))
    assert corners == sorted(corners)
    assert (len({top for top, _ in corners}), len({left for _, left in corners})) == grid


def test_a_sheet_scales_its_images_to_one_width() -> None:
    sheets = [contact_sheet(images(3), 3, cell_width=width) for width in (40, 80)]
    assert sheets[1].shape[1] - sheets[0].shape[1] == 3 * 40
    assert images(1)[0].shape == (20, 30, 3)


def test_a_caption_is_seen_to_its_end() -> None:
    cell = [grey(60, 40)]
    one, other = (contact_sheet(cell, 1, [f"a caption much longer than wide {end}"]) for end in "xo")
    assert one.shape == other.shape
    assert not np.array_equal(one, other)
    differ = np.nonzero((one != other).any(axis=(0, 2)))[0]
    assert differ.min() > 50


@pytest.mark.parametrize(("count", "columns", "captions"), [(0, 1, []), (2, 0, []), (2, 1, ["one"])])
def test_what_makes_no_sheet_is_refused(count: int, columns: int, captions: list[str]) -> None:
    with pytest.raises(ValueError, match="do not make a sheet"):
        contact_sheet(images(count), columns, captions)
