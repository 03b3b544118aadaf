"""Model repositories for Triton and for OpenVINO Model Server."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.files import existing_file, writable_folder, write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.model_files.plan_record import is_plan, read_plan
from yowo_deploy.model_files.streaming_form import streaming_form
from yowo_deploy.serving.models import CLIP, STREAM, STREAM_INPUTS, STREAM_OUTPUTS, clip_tensors, model_config
from yowo_deploy.serving.sequences import IDLE_S, MAX_SEQUENCES
from yowo_deploy.serving.tensors import Json, TensorInfo
from yowo_deploy.spec import ModelSpec

_HERE = Path(__file__).parent
CLIENT = _HERE / "client.py"


class _Described:
    """A model of a repository, as `model_config` takes it."""

    def __init__(self, name: str, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> None:
        self.name, self.inputs, self.outputs = name, inputs, outputs

    def infer(self, request: object) -> dict[str, object]:
        """Triton does that."""
        raise NotImplementedError


def write_triton(model: str | os.PathLike[str], output: str | os.PathLike[str], python_path: str = "") -> Path:
    """A model repository for Triton: `yowo_stream` with the Python backend, `yowo_clip` with the engine's own.

    A file that takes frames has no clips to give to `yowo_clip`, which is left out then.

    Args:
        python_path: folders, separated as in PATH, from which the Python backend imports this package and libraries.

    Raises:
        InputError: the model is a checkpoint, is no model, or takes no single clips.
        OutputError: the folder is there already, or cannot be written.
    """
    file, spec, plan = _model(model)
    fixed = None if spec.streaming else _fixed_batch(file, plan)
    folder = _new_folder(output)
    stream = _Described(STREAM, STREAM_INPUTS, STREAM_OUTPUTS)
    _add(folder, stream, file, file.name if plan else "yowo.onnx", spec, "python", python_path)
    shutil.copyfile(_HERE / "triton_model.py", folder / STREAM / "1" / "model.py")
    if not spec.streaming:
        clip = _Described(CLIP, *clip_tensors(spec, fixed or -1))
        engine, name = ("tensorrt", "model.plan") if plan else ("onnxruntime", "model.onnx")
        _add(folder, clip, file, name, spec, engine)
    shutil.copyfile(CLIENT, folder / "client.py")
    write_text(folder / "README.md", _README.format(name=spec.name, clip="" if spec.streaming else f", `{CLIP}`"))
    return folder


def write_ovms(model: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """A repository for OpenVINO Model Server: `yowo_clip` alone, since it runs networks and no Python here.

    Raises:
        InputError: the model is no ONNX file of clips.
        OutputError: the folder is there already, or cannot be written.
    """
    file, spec, plan = _model(model)
    if plan or spec.streaming:
        kind = "a plan" if plan else "a streaming file"
        raise InputError(f"{file} is {kind}: OpenVINO Model Server takes an ONNX file of clips")
    folder = _new_folder(output)
    version = writable_folder(folder / CLIP / "1")
    shutil.copyfile(file, version / "model.onnx")
    entry = {"config": {"name": CLIP, "base_path": f"/models/{CLIP}"}}
    write_text(folder / "config.json", json.dumps({"model_config_list": [entry]}, indent=2) + "\n")
    write_text(folder / CLIP / "labels.txt", "".join(f"{label}\n" for label in spec.labels))
    return folder


def to_pbtxt(config: Json) -> str:
    """A model's configuration as protobuf text: dicts are messages, lists repeat their field."""
    return "".join(f"{line}\n" for name, value in config.items() for line in _field(name, value))


def _field(name: str, value: object) -> Iterator[str]:
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        yield f"{name}: [{', '.join(map(str, value))}]"
    elif isinstance(value, list):
        for each in value:
            yield from _field(name, each)
    elif name == "parameters" and isinstance(value, dict):
        for key, each in value.items():
            text = f"value {{ string_value: {json.dumps(each['string_value'])} }}"
            yield f"parameters {{ key: {json.dumps(key)} {text} }}"
    elif isinstance(value, dict):
        yield f"{name} {{"
        yield from (f"  {line}" for key, each in value.items() for line in _field(key, each))
        yield "}"
    else:
        is_word = isinstance(value, str) and (value.startswith("TYPE_") or value.startswith("KIND_"))
        yield f"{name}: {value if is_word or not isinstance(value, str) else json.dumps(value)}"


def _model(model: str | os.PathLike[str]) -> tuple[Path, ModelSpec, bool]:
    """File, spec, and whether it is a plan."""
    file = existing_file(model_path(model), "model")
    if is_checkpoint(file):
        raise InputError(f"{file} is a checkpoint, which servers do not run: export it first")
    plan = is_plan(file)
    return file, read_plan(file).spec if plan else read_spec(file), plan


def _fixed_batch(file: Path, plan: bool) -> int | None:
    """Clips per call where the file fixes them; Triton compares the configuration with graph and plan."""
    if plan:
        least, _, most = read_plan(file).batch
        form = None
    else:
        found = read_onnx_file(file)
        least, most, form = found.batch or 1, found.batch or 0, streaming_form(found)
    if least > 1 and form is None:
        raise InputError(
            f"{file} takes at least {least} clips a call, and {STREAM} has one at a time: export or build it without "
            "--batch, or with --batch 1"
        )
    return least if least == most else None


def _new_folder(output: str | os.PathLike[str]) -> Path:
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} already exists: give the name of a new folder")
    return writable_folder(folder)


def _add(
    folder: Path, model: _Described, file: Path, name: str, spec: ModelSpec, backend: str, python_path: str = ""
) -> None:
    """One model: its file, its labels and its configuration."""
    version = writable_folder(folder / model.name / "1")
    shutil.copyfile(file, version / name)
    config = model_config(model, spec.labels, IDLE_S, MAX_SEQUENCES)  # type: ignore[arg-type]
    if backend == "python":
        config["parameters"] |= {"file": {"string_value": name}}
        config["parameters"] |= {"python_path": {"string_value": python_path}} if python_path else {}
    kind = "KIND_GPU" if backend == "tensorrt" else "KIND_CPU"
    config = {"name": model.name, "backend": backend, **config, "instance_group": [{"count": 1, "kind": kind}]}
    write_text(folder / model.name / "config.pbtxt", to_pbtxt(config))
    write_text(folder / model.name / "labels.txt", "".join(f"{label}\n" for label in spec.labels))


_README = """# {name} for Triton

Models: `yowo_stream`{clip}. `yowo_stream` needs the Python backend, and in the server's Python `yowo-deploy` with an
engine, as `pip install yowo-deploy[openvino]`; where they lie elsewhere, add their folders to its config.pbtxt:

    parameters {{ key: "python_path" value {{ string_value: "/folder:/another" }} }}

The Python backend of Triton 2.51 needs numpy below 2. It imports numpy before this model and its `python_path`: from
the environment of the first `python3` in PATH, then from the folder of `triton_python_backend_utils.py`. Where it finds
numpy 2 the model does not load.

    tritonserver --model-repository=THIS_FOLDER
    pip install tritonclient[http] opencv-python-headless
    python client.py --url 127.0.0.1:8000 video.mp4
"""
