"""A proof as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from yowo_deploy.files import work_folder
from yowo_deploy.visuals.html_report import Figure, Paragraph, Piece, Section, Table, html_report
from yowo_export.parity.bisect import LayerError
from yowo_export.parity.prove import Proof


def parity_report(reference: str, candidate: str, proof: Proof) -> str:
    """The verdict, every figure with its limit, and the layers with a picture of their errors.

    The picture needs matplotlib; without it the page has the table and a hint to install it.
    """
    sections = []
    if proof.difference:
        rows = proof.difference.rows(proof.limits)
        sections.append(Section("Outputs and detections", [Table(("what", "found", "limit"), rows)]))
    if proof.maps:
        one, other = (f"{100 * value:.2f}" for value in proof.maps)
        table = Table(("", "frame-mAP@0.5 %"), [("reference", one), ("candidate", other)])
        sections.append(Section("On the data set", [table]))
    if proof.bisection:
        layers = proof.bisection.layers
        pieces: list[Piece] = [Paragraph(proof.bisection.sentence()), _picture(layers)]
        pieces.append(Table(("layer", "difference", "inputs", "limit"), [layer.row() for layer in layers]))
        sections.append(Section("Layer by layer", pieces))
    return html_report(f"{Path(reference).name} and {Path(candidate).name}", sections, proof.verdict())


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
