"""The streaming form of a file of clips, carried in the file: another graph over the same weights.

It stands in the metadata as base64 of a deflated ONNX file without the weights that it shares with the clips' graph by
name, so that both forms need little more room than one (`yowo_export.streaming.form` writes it).
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from typing import Literal

from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.model_files.onnx_graph import Tensor
from yowo_deploy.model_files.onnx_reader import OnnxFile, checked_file
from yowo_deploy.spec import METADATA_KEY

FORM_KEY = "yowo_streaming_form"
VideosAtOnce = Literal["one", "many"]
MAX_FORM_BYTES = 4 << 20  # of the graph and the weights that are its own; the default model's has 69 kB


def pack_form(streaming: OnnxFile, clips: OnnxFile) -> str:
    """What a file of clips says of its streaming form.

    Args:
        streaming: the same network as a streaming file.
        clips: the file that will carry it.

    Raises:
        ModelFileError: what is not shared is too large.
    """
    held = {_key(each) for each in clips.graph.tensors}
    own = [each for each in streaming.graph.tensors if _key(each) not in held]
    content = b"".join(replace(streaming.graph, tensors=own).parts())
    if len(content) > MAX_FORM_BYTES:
        raise ModelFileError(f"has a streaming form of {len(content)} bytes, more than {MAX_FORM_BYTES}")
    return base64.b64encode(zlib.compress(content, 9)).decode()


def streaming_form(file: OnnxFile) -> OnnxFile | None:
    """The file in its streaming form, passed through the same gate; None where it carries none.

    Raises:
        ModelFileError: what it carries is no such form, or not one of this file.
    """
    packed = file.metadata.get(FORM_KEY)
    if packed is None or file.spec.streaming:
        return None
    with foreign(f"{file.path} carries a damaged streaming form, export it again", ModelFileError):
        content = _inflated(base64.b64decode(packed, validate=True))
    form = checked_file(content, file.path, file.graph.tensors)
    return replace(form, metadata={METADATA_KEY: file.spec.replace(streaming=True).to_json()})


def in_streaming_form(file: OnnxFile, parallel: int, videos: VideosAtOnce) -> tuple[OnnxFile, int]:
    """The form for videos frame by frame, where there is one, and the calls at once that it gains by.

    Raises:
        ModelFileError: see `streaming_form`.
    """
    form = streaming_form(file) or file
    return form, 1 if form.spec.streaming and videos == "one" else parallel


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    content = inflater.decompress(packed, MAX_FORM_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("cut off, too large, or followed by something")
    return content


def _key(tensor: Tensor) -> tuple[str, int, tuple[int, ...], int, bytes]:
    return tensor.name, tensor.dtype, tensor.shape, tensor.field, bytes(tensor.values)
