"""Frames, boxes and scores over time in the Rerun viewer.

pip install rerun-sdk 'yowo-deploy[openvino]'
python log_video.py video.mp4 [yowo.onnx]
"""

from __future__ import annotations

import sys

import rerun

from yowo_deploy import Detector, Result, open_source


def log(result: Result) -> None:
    """Send one frame: the picture, a box a person, and each person's score as a curve."""
    found = result.detections
    rerun.set_time("frame", sequence=result.frame_index)
    rerun.log("camera", rerun.Image(result.frame, color_model="BGR").compress(jpeg_quality=80))
    labels = [result.names[each] for each in found.class_id]
    people = range(len(found)) if found.tracker_id is None else found.tracker_id.tolist()
    boxes = rerun.Boxes2D(array=found.xyxy, array_format=rerun.Box2DFormat.XYXY, labels=labels, class_ids=list(people))
    rerun.log("camera/people", boxes)
    for person, score in zip(people, found.confidence, strict=True):
        rerun.log(f"score/person_{person}", rerun.Scalars(float(score)))


if __name__ == "__main__":
    rerun.init("yowo-deploy", spawn=True)
    with Detector.open(*sys.argv[2:3]) as detector, open_source(sys.argv[1]) as source:
        for each in detector.stream(source):
            log(each)
