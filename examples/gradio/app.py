"""A web page: upload a video, get it back with boxes, and a table of who did what, from when to when.

pip install gradio 'yowo-deploy[openvino]'
python app.py [yowo.onnx]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from yowo_deploy import Outputs, detect

Row = tuple[int, str, float, float, float]  # person, action, from and to in seconds, score


def annotate(video: str, confidence: float, model: str = "default") -> tuple[str, list[Row]]:
    """The annotated video, and a row for each person and action.

    Args:
        video: path of the upload.
        confidence: above which a person appears, 0 to 1.
        model: a model file, or "default".
    """
    folder = Path(tempfile.mkdtemp(prefix="yowo-"))  # the page serves files from the folder for temporary ones
    shown, found = folder / "annotated.webm", folder / "tubes.json"
    for _ in detect(video, Outputs(video=str(shown), tubes=str(found)), model, confidence=confidence):
        pass
    tubes = json.loads(found.read_text(encoding="utf-8"))["tubes"]
    actions = [action for tube in tubes for action in tube["actions"]]
    return str(shown), [
        (each["person"], each["label"], each["first_time"], each["last_time"], each["score"]) for each in actions
    ]


if __name__ == "__main__":
    import gradio

    chosen = sys.argv[1] if len(sys.argv) > 1 else "default"
    gradio.Interface(
        lambda video, confidence: annotate(video, confidence, chosen),
        [gradio.Video(label="Video"), gradio.Slider(0.05, 0.9, 0.15, label="Confidence")],
        [gradio.Video(label="Who does what"), gradio.Dataframe(headers=["person", "action", "from", "to", "score"])],
        flagging_mode="never",
    ).launch()
