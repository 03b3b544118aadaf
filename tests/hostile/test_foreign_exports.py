"""Annotations of other tools and systems are read as they mean, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.foreign_exports import exports
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations, recognise
from yowo_deploy.errors import InputError

EXPORTS = exports()


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_recognised_and_read_as_it_means(name: str, tmp_path: Path) -> None:
    kind, _, files, said = EXPORTS[name]
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    if said.startswith("!"):
        with pytest.raises(InputError) as caught:
            import_annotations(tmp_path, kind, Options(fps=25.0))
        message = str(caught.value)
        assert said[1:] in message and message.isprintable() and len(message) < 500
        return
    assert recognise(tmp_path) == kind
    data, _ = import_annotations(tmp_path, kind, Options(fps=25.0))
    video = data.videos[0]
    assert "\\" not in video.name
    assert said == ", ".join(
        f"{data.classes[tube.class_id]} {tube.frames[0]}-{tube.frames[-1]} "
        + ",".join(f"{value:.6g}" for value in tube.xyxy[0].tolist())
        for tube in video.tubes
    )
