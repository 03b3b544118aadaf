"""Write CVAT for video 1.1: one XML a video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.data_json import Annotations, plain_numbers, relative_to
from yowo_deploy.datasets.formats.cvat_shapes import CORNERS, PERSON
from yowo_deploy.datasets.formats.sidecar import KEY, file_names, remarks_of, subset_of


def cvat_texts(annotations: Annotations, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """One XML a video, named after it; CVAT takes each as the annotations of a task with that video."""
    names = file_names(video.name for video in annotations.videos)
    texts = ("\n".join(_xml(annotations, place, folder)) + "\n" for place in range(len(names)))
    return dict(zip((folder / f"{name}.xml" for name in names), texts, strict=True)), []


def _xml(annotations: Annotations, place: int, folder: Path) -> Iterator[str]:
    video = annotations.videos[place]
    width, height = video.size_wh or (0, 0)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>\n <version>1.1</version>\n <meta>\n  <task>"
    facts: dict[str, object] = {"name": video.name, "size": video.frames, "mode": "interpolation", "start_frame": 0}
    facts |= {"stop_frame": video.frames - 1, "subset": subset_of(annotations, video.name)}
    facts |= {"fps": video.fps, "source": relative_to(video.path, folder)}
    facts |= {KEY: json.dumps(remarks_of(annotations, place), allow_nan=False)}
    yield from (f"   <{key}>{escape(str(value))}</{key}>" for key, value in facts.items() if value is not None)
    yield "   <labels>"
    for label in annotations.classes:
        person = f"<name>{PERSON}</name><mutable>False</mutable><input_type>number</input_type>"
        limits = "<default_value>-1</default_value><values>-1\n1000000\n1</values>"  # -1: `_People` decides
        attribute = f"<attributes><attribute>{person}{limits}</attribute></attributes>"
        yield f"    <label><name>{escape(label)}</name><type>rectangle</type>{attribute}</label>"
    yield "   </labels>"
    if video.size_wh:
        yield f"   <original_size><width>{width}</width><height>{height}</height></original_size>"
    yield "  </task>\n </meta>"
    for number, tube in enumerate(video.tubes):
        label = quoteattr(annotations.classes[tube.class_id])
        yield f' <track id="{number}" label={label} source="file">'
        yield from _boxes(tube, video.frames)
        yield " </track>"
    yield "</annotations>"


def _boxes(tube: Tube, frames: int) -> Iterator[str]:
    """Every box of a tube as a keyframe, and where the next frame has none, one that is outside."""
    present, last = set(tube.frames.tolist()), int(tube.frames[-1])
    for frame, corners in zip(tube.frames.tolist(), plain_numbers(tube.xyxy), strict=True):
        sides = " ".join(f'{side}="{value}"' for side, value in zip(CORNERS, corners, strict=True))
        person = f'<attribute name="{PERSON}">{tube.tracker_id}</attribute>'
        yield f'  <box frame="{frame}" keyframe="1" outside="0" occluded="0" {sides} z_order="0">{person}</box>'
        if frame + 1 not in present and frame + 1 < max(frames, last):
            yield f'  <box frame="{frame + 1}" keyframe="1" outside="1" occluded="0" {sides} z_order="0">{person}</box>'
