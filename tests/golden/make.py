"""Writes the golden data that Python and C++ both read: `python -m tests.golden.make`, from the project's folder.

Inputs are made by seed and expectations by the product, so a change of either shows as a difference in git. Arrays are
flat lists of integers, or of floats with every digit; shapes follow from what stands beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.errors import SpecError
from yowo_deploy.postprocess.decode import detect_and_best
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.postprocess.zones import Zone, Zones
from yowo_deploy.preprocess.frames import normalise, resize
from yowo_deploy.result import Result
from yowo_deploy.spec import FORMAT_VERSION, ModelSpec

FOLDER = Path(__file__).parent
Case = dict[str, Any]

SMALL = ModelSpec(labels=("walk", "sit", "stand"), anchors=((1.5, 1.0), (0.5, 2.0)), clip_length=3, frame_stride=2,
                  input_size=(8, 4), stride=2)  # fmt: skip
JHMDB = ModelSpec(
    labels=tuple(f"class {number}" for number in range(21)),
    anchors=((0.95878, 3.10197), (1.67204, 4.004), (1.75482, 5.64937), (3.09299, 5.80857), (4.91803, 6.25225)),
)
AVA = SMALL.replace(class_activation="softmax+sigmoid", softmax_classes=2, labels=("a", "b", "c", "d", "e"))


def flat(array: NDArray[Any]) -> list[Any]:
    """An array's numbers in the order of memory; those of float32 as the same float64."""
    numbers: list[Any] = array.ravel().tolist()
    return numbers


def shaped(numbers: list[Any], dtype: Any, *shape: int) -> NDArray[Any]:
    """The array that `flat` wrote."""
    return np.array(numbers, dtype).reshape(shape)


# --- specs: which JSON is one, and what follows from it ---


def spec_cases() -> list[Case]:
    """Texts that are specs, and texts that are none."""
    good, values = SMALL.to_json(), SMALL.to_dict()
    bare = {"labels": ["a"], "anchors": [[1, 2.5]]}
    texts = [good, JHMDB.to_json(indent=2), AVA.to_json(), json.dumps(bare), good + "\n "]
    texts.append(SMALL.replace(streaming=True).to_json())
    texts.append(SMALL.replace(labels=("läuft", "走る", 'a "b" \\', "💃")).to_json())
    texts += [json.dumps(bare | {"labels": ["💃", "\u00e9"]}), '{"labels": ["a"], "anchors": [[1e0, 1E+1]]}']
    texts.append('{"labels": ["z"], "labels": ["a"], "anchors": [[1, 1]]}')
    changes: list[Case] = [
        {"labels": []}, {"labels": ["a", "a"]}, {"labels": ["a\n"]}, {"labels": [""]}, {"labels": ["\u200b"]},
        {"labels": "abc"}, {"labels": [1]}, {"anchors": []}, {"anchors": [[1]]}, {"anchors": [[1, 0]]},
        {"anchors": [[1, -1]]}, {"anchors": [[1, 2, 3]]}, {"clip_length": 0}, {"clip_length": 1025},
        {"clip_length": 2.0}, {"clip_length": True}, {"clip_length": 10**30}, {"frame_stride": 0}, {"stride": 0},
        {"input_size": [9, 4]}, {"input_size": [8192, 8192], "clip_length": 1024}, {"input_size": [8]},
        {"input_size": [0, 4]}, {"colour": "grey"}, {"colour": None}, {"mean": [0, 0]}, {"std": [1, 1, 0]},
        {"std": [1, 1, 10**400]}, {"mean": [2**60, 0, 0]}, {"resize": "letterbox"}, {"resize_filter": "lanczos"},
        {"start_rule": "zeros"}, {"class_activation": "sigmoid"}, {"softmax_classes": 4}, {"softmax_classes": -1},
        {"attention_sign": "minus"}, {"confidence_threshold": 1.5}, {"nms_threshold": -0.1}, {"precision": "fp8"},
        {"keep_threshold": -0.1}, {"keep_threshold": True}, {"tube_decay": 1.1}, {"tube_decay": 0}, {"event_on": 2},
        {"event_off": -1}, {"event_off": 0.6}, {"event_off": 0.5}, {"event_on": 0.2},
        {"weights_sha256": 5}, {"name": []}, {"format_version": 0},
        {"format_version": 1}, {"format_version": 2}, {"format_version": 3}, {"format_version": 5},
        {"format_version": "1"}, {"input_type": "uint8"}, {"input_type": "float32"}, {"input_type": "int8"},
        {"input_type": 8},
        {"branches": [["backbone_2d", "colour", "key frame"], ["backbone_extra", "flow", "clip"]]}, {"branches": None},
        {"branches": [["a", "flow", "clip"], ["a", "colour", "clip"]]}, {"branches": [["a", "depth", "clip"]]},
        {"branches": [["", "flow", "clip"]]}, {"branches": [["a", "flow", "pairs"]]}, {"branches": [["a", "flow"]]},
        {"branches": [[1, "flow", "clip"]]}, {"branches": [["a\n", "flow", "clip"]]},
        {"branches": [[str(n), "flow", "clip"] for n in range(9)]},
        {"format_version": 7, "invented": {}}, {"invented": 1}, {"streaming": 1}, {"streaming": "yes"},
    ]  # fmt: skip
    texts += [json.dumps(values | change) for change in changes]
    texts += [json.dumps({"labels": ["a"]}), json.dumps({"anchors": [[1, 1]]}), "", "[]", "5", "null", "nonsense"]
    texts += [good[:-1], good + "}", good.replace(":", "=", 1), "[" * 3000]
    numbers = [json.dumps(bare).replace("2.5", number) for number in ("01", "2.5,", "NaN", "+1", ".5", "1.", "1e")]
    texts += numbers + [json.dumps(bare).replace('"a"', label) for label in ('"\\ud800"', '"a\tb"', "'a'")]
    return [{"text": text, **spec_expected(text)} for text in texts]


def spec_expected(text: str) -> Case:
    """What the spec of a text says of shapes, or why it is none."""
    try:
        spec = ModelSpec.from_json(text)
    except SpecError as error:
        newer = f"is newer than {FORMAT_VERSION}: upgrade yowo-deploy"
        return {"error": newer if newer in str(error) else "spec"}
    numbers = (spec.classes, *spec.grid_size, spec.output_channels, spec.clip_span, *spec.clip_shape)
    return {"numbers": list(numbers), "last_label": spec.labels[-1]}


# --- frames to planes ---


def plane_cases() -> list[Case]:
    """Frames that shrink, grow, do both, and stay as they are, by every filter."""
    rng, cases = np.random.default_rng(9), []
    sizes = (((37, 23), (16, 12)), ((9, 7), (24, 16)), ((50, 6), (8, 24)), ((16, 16), (16, 16)), ((1, 1), (8, 8)))
    for resize_filter in ("nearest", "bilinear", "bicubic"):
        for number, ((width, height), size) in enumerate(sizes):
            frame = rng.integers(0, 2, (height, width, 3), np.uint8) * 255  # edges: where overshoot is cut off
            if number % 2:
                frame = rng.integers(0, 256, (height, width, 3), np.uint8)
            spec = SMALL.replace(stride=4, input_size=size, resize_filter=resize_filter)
            if number == 1:
                spec = spec.replace(colour="bgr", mean=(0.45, 0.5, 0.0), std=(0.225, 0.25, 1.0))
            cases.append({"spec": spec.to_dict(), "width": width, "height": height, "frame": flat(frame)})
    return [case | planes_expected(case) for case in cases]


def planes_expected(case: Case) -> Case:
    """The frame at the input's size, and the first two rows of its planes."""
    spec = ModelSpec.from_dict(case["spec"])
    frame = shaped(case["frame"], np.uint8, case["height"], case["width"], 3)
    resized = resize(frame, spec.input_size, spec.resize_filter)
    return {"resized": flat(resized), "planes": flat(normalise(resized, spec)[:, :2])}


# --- raw outputs to detections ---


def decode_cases() -> list[Case]:
    """Outputs with many boxes over each other, with none, and with sizes beyond any frame; by score and by `keep`."""
    cases = []
    for seed, (spec, shift, confidence, iou, keep) in enumerate(
        [(JHMDB, -2, 0.05, 0.4, 0), (JHMDB, 1, 0.005, 0.6, 0), (SMALL, 0, 0.25, 0.4, 0), (SMALL, 0, 0.0, 1.0, 0),
         (SMALL, -30, 0.25, 0.4, 0), (AVA, 0, 0.3, 0.4, 0), (AVA, 2, 0.005, 0.3, 0), (JHMDB, -2, 0.25, 0.4, 0.15),
         (AVA, 0, 0.3, 0.5, 0.1)]
    ):  # fmt: skip
        rng, (columns, rows) = np.random.default_rng(seed), spec.grid_size
        raw = rng.standard_normal((len(spec.anchors), 5 + spec.classes, rows, columns)).astype(np.float32)
        raw[:, 4] += shift
        raw[:, 5:] *= 2
        if seed == 3:
            raw *= 40  # saturates sigmoids, overflows exponentials
        raw = np.round(64 * raw) / 64  # few digits
        cases.append(
            {
                "spec": spec.to_dict(),
                "raw": flat(raw),
                "frame_size": [320, 241],
                "confidence": confidence,
                "iou": iou,
                "keep": keep,
            }
        )
    return [case | {"expected": detections_expected(case)} for case in cases]


def detections_expected(case: Case) -> Case:
    """Of one output."""
    spec = ModelSpec.from_dict(case["spec"])
    (columns, rows) = spec.grid_size
    raw = shaped(case["raw"], np.float32, spec.output_channels, rows, columns)
    found, _ = detect_and_best(raw, spec, tuple(case["frame_size"]), case["confidence"], case["iou"], case["keep"])
    return detections_case(found)


def detections_case(found: Detections) -> Case:
    """Detections as plain values."""
    return {
        "xyxy": found.xyxy.tolist(),
        "confidence": found.confidence.tolist(),
        "class_id": found.class_id.tolist(),
        "scores": flat(found.scores),
        "objectness": [] if found.objectness is None else found.objectness.tolist(),
    }


# --- detections to tubes ---


def tube_cases() -> list[Case]:
    """People who walk, meet, vanish and come back; noise; frames with nobody, at the start, between and at the end."""
    cases = [{"classes": 2, "frames": _walkers(seed, frames, people)} for seed, frames, people in
             ((0, 24, 3), (1, 17, 1), (2, 2, 4), (3, 1, 2))]  # fmt: skip
    cases.append({"classes": 1, "frames": _returning(people=24)})
    cases.append({"classes": 1, "frames": [{"xyxy": [], "scores": []}] * 3})
    crowd = _walkers(7, 40, 9, objectness=True)
    for frame, number in zip(crowd, np.cumsum([1, 1, 1, 3, 1, 1, 2, 1] * 4 + [9, 1, 11, 1, 1, 1, 2, 5]), strict=True):
        frame["number"] = int(number) - 1
    for of_linker in ({"decay": 0.97}, {"decay": 0.97, "appear": 0.4, "keep": 0.3, "min_frames": 2},
                      {"decay": 1.0, "appear": 0.3}, {"appear": 0.35, "keep": 0.2}):  # fmt: skip
        cases.append({"classes": 2, "frames": crowd, "linker": of_linker})
    return [case | tubes_expected(case) for case in cases]


def _walkers(seed: int, frames: int, people: int, objectness: bool = False) -> list[Case]:
    rng = np.random.default_rng(seed)
    starts, steps = rng.uniform(0, 200, (people, 2)), rng.uniform(-4, 4, (people, 2))
    levels, made = rng.uniform(0.2, 0.9, (people, 2)), []
    for frame in range(frames):
        corner = starts + frame * steps + rng.normal(0, 0.7, (people, 2))
        boxes = np.concatenate([corner, corner + np.array([40, 90])], axis=1).round(2)
        scores = (levels * rng.uniform(0.7, 1, (people, 2)) * (rng.random((people, 2)) > 0.1)).round(3)
        seen = rng.random(people) > 0.2
        seen &= frames < 10 or 1 <= frame < frames - 1
        made.append({"xyxy": boxes[seen].tolist(), "scores": scores[seen].tolist()})
        if objectness:
            made[-1]["objectness"] = (scores.sum(axis=1) * 0.5 + 0.1).clip(0, 1).round(3)[seen].tolist()
    return made


def _returning(people: int) -> list[Case]:
    """People found again after two frames, twice.

    Of this seed some mean scores differ where the product and the sum of an interpolation are fused.
    """
    rng, nobody = np.random.default_rng(156), {"xyxy": [], "scores": []}
    boxes = [[50.0 * person, 10.0, 50.0 * person + 40, 100.0] for person in range(people)]
    scores = rng.uniform(0.05, 0.95, (3, people, 1)).round(3).tolist()
    first, *later = ({"xyxy": boxes, "scores": of_frame} for of_frame in scores)
    return [first] + [frame for seen in later for frame in (nobody, nobody, seen)]


def _detections(case: Case) -> list[Detections]:
    made = []
    for frame in case["frames"]:
        scores = np.array(frame["scores"], np.float32).reshape(-1, case["classes"])
        xyxy = np.array(frame["xyxy"], np.float32).reshape(-1, 4)
        objectness = np.array(frame["objectness"], np.float32) if "objectness" in frame else None
        best = scores.max(axis=1, initial=0), scores.argmax(axis=1)
        made.append(Detections(xyxy, *best, scores, objectness=objectness))
    return made


def tubes_expected(case: Case) -> Case:
    """What is shown in each frame and of which tubes, and the tubes that ended."""
    linker, ids = OnlineLinker(patience=3, memory=6, max_gap=8, **case.get("linker", {})), []
    for frame, found in zip(case["frames"], _detections(case), strict=True):
        alive = linker.push(found, frame.get("number"))
        told = [[tube.tracker_id, tube.class_id, int(tube.frames[0]), tube.score] for tube in alive]
        shown = detections_case(linker.shown) if "linker" in case else {}
        ids.append({"tracker_id": linker.tracker_id.tolist(), "alive": told, **shown})
    return {"online": ids, "ended": [tube_case(tube) for tube in linker.close()]}


def tube_case(tube: Tube) -> Case:
    """A tube as plain values; frames are without gaps, so that the first one is enough."""
    return {
        "class_id": tube.class_id,
        "tracker_id": tube.tracker_id,
        "score": tube.score,
        "first": int(tube.frames[0]),
        "xyxy": tube.xyxy.tolist(),
        "scores": [] if tube.scores is None else tube.scores.tolist(),
        "class_scores": [] if tube.class_scores is None else tube.class_scores.tolist(),
    }


# --- zones: who is in which, and for how long ---


def zone_cases() -> list[Case]:
    """People who walk about at random, are missed and come back."""
    rng = np.random.default_rng(11)
    corners: list[list[list[list[float]]]] = [
        [[[0, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]], [[0.5, 0.5], [1, 0.25], [1, 1], [0.5, 1]]],
        [
            [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]],
            [[0, 0], [1, 0], [0.3, 1]],
            [[0.2, 0.7], [0.8, 0.7], [0.5, 0]],
        ],
    ]
    cases = []
    for zones, anchor, patience in zip(2 * corners, ("bottom", "center") * 2, (0.25, 0.5, 2.0, 1.0), strict=True):
        frames, feet, seconds = [], rng.uniform(0, 64, (4, 2)), 0.0
        for _ in range(40):
            seconds += float(rng.choice([0.04, 0.04, 0.08, 0.6]))
            feet = np.clip(feet + rng.normal(0, 6, feet.shape), 0, 64).astype(np.float32)
            ids = [person for person in range(4) if rng.random() < 0.8]
            boxes = [[*(feet[i] - np.float32(3)).tolist(), *feet[i].tolist()] for i in ids]
            frames.append({"seconds": seconds, "tracker_id": ids, "xyxy": boxes})
        cases.append({"zones": zones, "anchor": anchor, "patience": patience, "size": [64, 48], "frames": frames})
    return [case | {"expected": zones_expected(case)} for case in cases]


def zones_expected(case: Case) -> list[list[Any]]:
    """Of each frame, for each person: number, zones, zones entered, seconds."""
    names = [str(number) for number in range(len(case["zones"]))]
    zones = [Zone(name, tuple((x, y) for x, y in each)) for name, each in zip(names, case["zones"], strict=True)]
    under_test, told = Zones(zones, case["anchor"], case["patience"]), []
    for number, frame in enumerate(case["frames"]):
        rows = len(frame["tracker_id"])
        boxes, scores = shaped(frame["xyxy"], np.float32, rows, 4), np.ones((rows, 1), np.float32)
        found = Detections(
            boxes, scores[:, 0], np.zeros(rows, np.int64), scores, np.array(frame["tracker_id"], np.int64)
        )
        image = np.zeros((case["size"][1], case["size"][0], 3), np.uint8)
        present = under_test.push(Result(number, image, found, ("a",), {}, frame["seconds"]))
        told.append([
            [person, [*map(int, each.zones)], [*map(int, each.entered)], [*each.dwell.values()]]
            for person, each in sorted(present.items())
        ])  # fmt: skip
    return told


CASES = {
    "specs": spec_cases,
    "planes": plane_cases,
    "detections": decode_cases,
    "tubes": tube_cases,
    "zones": zone_cases,
}


def main() -> None:
    """Write every file."""
    for name, cases in CASES.items():
        text = json.dumps({"cases": cases()}, ensure_ascii=True)
        (FOLDER / f"{name}.json").write_text(text.replace("}, {", "},\n{") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
