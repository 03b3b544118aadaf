"""A proof as one HTML page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from yowo_deploy.diagnostics.system_info import provenance
from yowo_deploy.files import work_folder
from yowo_deploy.model_files.default import model_path
from yowo_deploy.visuals.draw import contact_sheet, draw
from yowo_deploy.visuals.html_report import Figure, Paragraph, Piece, Section, Table, html_report
from yowo_export.parity.bisect import LayerError
from yowo_export.parity.prove import Proof, WorstClip

CELL = 480  # pixels across a frame that is shown


def parity_report(reference: str | os.PathLike[str], candidate: str | os.PathLike[str], proof: Proof) -> str:
    """The verdict, every figure with its limit, the clip that differs most with both models' boxes, the layers with a
    picture of their errors, and what the page was made of.

    The picture of errors needs matplotlib; without it the page has the table and a hint to install it.

    Args:
        reference, candidate: the files, which are hashed.
    """
    sections = []
    if proof.difference:
        rows = proof.difference.rows(proof.limits)
        sections.append(Section("Outputs and detections", [Table(("what", "found", "limit"), rows)]))
    if proof.worst:
        sections.append(Section("The clip that differs most", [_pair(proof.worst)]))
    if proof.maps:
        one, other = (f"{100 * value:.2f}" for value in proof.maps)
        table = Table(("", "frame-mAP@0.5 %"), [("reference", one), ("candidate", other)])
        sections.append(Section("On the data set", [table]))
    if proof.bisection:
        layers = proof.bisection.layers
        pieces: list[Piece] = [Paragraph(proof.bisection.sentence()), _picture(layers)]
        pieces.append(Table(("layer", "difference", "inputs", "limit"), [layer.row() for layer in layers]))
        sections.append(Section("Layer by layer", pieces))
    made_of = provenance({"reference": model_path(reference), "candidate": model_path(candidate)})
    sections.append(Section("Provenance", [Table(("what", "value"), list(made_of.items()))]))
    return html_report(f"{Path(reference).name} and {Path(candidate).name}", sections, proof.verdict())


def _pair(worst: WorstClip) -> Figure:
    drawn = [draw(worst.frame_bgr, found, worst.labels) for found in (worst.reference, worst.candidate)]
    sheet = contact_sheet(drawn, 2, ("reference", "candidate"), CELL)
    return Figure(sheet, f"{worst.place}: boxes of the reference on the left, of the candidate on the right.", "jpeg")


def _picture(layers: Sequence[LayerError]) -> Piece:
    if find_spec("matplotlib") is None:
        return Paragraph("The picture needs matplotlib: pip install 'yowo-deploy[plots]'.")
    from yowo_deploy.visuals.plots import depth_plot

    with work_folder() as folder:
        path = Path(folder) / "depth.png"
        first = next((index for index, layer in enumerate(layers) if layer.differs), None)
        depth_plot([layer.error for layer in layers], [layer.limit for layer in layers], first, path)
        image = np.asarray(cv2.imread(str(path)), np.uint8)
    return Figure(image, "Difference behind each layer, in the order of the graph, and its limit.")
