"""The paper's Tables 2 to 4 with small branches, equally trained: `python -m benchmarks.ablation DIR EPOCHS OUTPUT`.

Nine models one after the other on J-HMDB-21, each trained for so many epochs and judged on every frame of the test
split. What is there already in OUTPUT is not trained again, and a run that was stopped goes on. Clips have 16 frames,
d = 1, where a row does not say it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from yowo_deploy.backends.loader import open_model
from yowo_deploy.datasets import open_dataset
from yowo_deploy.evaluation import evaluate_videos
from yowo_deploy.files import write_text
from yowo_export.exporter import export_onnx
from yowo_training.checkpoints.checkpoint import load_checkpoint
from yowo_training.recipes import Recipe, find_recipe
from yowo_training.trainer import Budget, Run

LITE = replace(find_recipe("yowo-lite"), backbone_3d="motion_lite0")
ALONE_2D = replace(LITE, backbone_3d=None, pretrained=("backbone_2d",), first_3d=0.0, heard_3d=1.0, auxiliary=0.0)
ALONE_3D = replace(LITE, backbone_2d=None, pretrained=("backbone_3d",), heard_3d=1.0)
VARIANTS: Mapping[str, Recipe] = {
    "2D": replace(ALONE_2D, fusion="concat"),
    "3D": replace(ALONE_3D, fusion="concat"),
    "2D + 3D": replace(LITE, fusion="concat"),
    "2D + CFAM": ALONE_2D,
    "3D + CFAM": ALONE_3D,
    "2D + 3D + CFAM": LITE,
    "2D + 3D + CFAM, 8 frames": replace(LITE, clip_length=8, frame_stride=1, train_strides=(1,)),
    "2D + 3D + CFAM, 8 frames, d = 2": replace(LITE, clip_length=8, frame_stride=2, train_strides=(2,)),
    "2D + 3D + CFAM, 16 frames, d = 2": replace(LITE, clip_length=16, frame_stride=2, train_strides=(2,)),
}
# Frame-mAP, recall and accuracy on J-HMDB-21 of the paper's own branches: without CFAM at 8 frames, d = 1 (its Tables 2
# and 3); by clip length and d frame-mAP alone (Table 4).
PAPER: Mapping[str, tuple[float, ...]] = {
    "2D": (36.0, 94.3, 50.6),
    "3D": (41.5, 76.3, 69.3),
    "2D + 3D": (47.1, 94.5, 63.0),
    "2D + 3D + CFAM": (74.4,),
    "2D + 3D + CFAM, 8 frames": (64.9, 97.3, 76.1),
    "2D + 3D + CFAM, 8 frames, d = 2": (61.5,),
    "2D + 3D + CFAM, 16 frames, d = 2": (71.4,),
}


def main() -> None:
    """Train, judge, and print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of J-HMDB-21")
    parser.add_argument("epochs", type=int)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    sys.setswitchinterval(0.0002)  # as the command line has it
    dataset = open_dataset("jhmdb21", given.data)
    for name, recipe in VARIANTS.items():
        folder = given.output / name.replace(" ", "").replace(",", "_").replace("+", "_")
        figures = folder / "figures.json"
        if not figures.exists():
            run = Run(recipe, dataset, folder, Budget(None, given.epochs), validation=0.0, resume=True)
            for _ in run:
                pass
            export_onnx(load_checkpoint(folder / "last.pt"), folder / "last.onnx")  # judged in a third of the time
            with open_model(folder / "last.onnx", parallel=2) as backend:
                found = evaluate_videos(backend, dataset.videos("test"))
            values = {"frame_map": found.frame_map.mean, "recall": found.recall, "accuracy": found.accuracy}
            write_text(figures, json.dumps(values))
        ours = " ".join(f"{100 * value:.1f}" for value in json.loads(figures.read_text()).values())
        print(f"{name:35} ours {ours:20} paper {' '.join(map(str, PAPER.get(name, '-')))}", flush=True)


if __name__ == "__main__":
    main()
