"""Foreign parsers and engines are called behind a door (`errors.foreign`): whatever they raise is one line of ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# What reads content that others made, or hands it to an engine: functions by module and name, methods by name.
FUNCTIONS = {
    "parse_json", "strict_json",
    "json.loads", "json.load", "csv.reader", "csv.DictReader", "np.load", "torch.load", "pickle.load", "pickle.loads",
    "cv2.imread", "cv2.imdecode", "cv2.VideoCapture", "cv2.VideoWriter", "zipfile.ZipFile", "zlib.decompress",
    "gzip.open", "gzip.decompress", "safetensors.safe_open", "onnx.load", "av.open", "untyped.open", "parser.parse",
}  # fmt: skip
METHODS = {
    "read_model", "compile_model", "InferenceSession", "deserialize_cuda_engine", "execute_async_v3",
    "create_execution_context", "mux", "decompress",
}  # fmt: skip
# In a `with`: that of `errors`, and those that classes make of it.
DOORS = {"foreign", "door", "_door", "_turn"}
# Function -> where its door is, or why it needs none.
ELSEWHERE = {
    "yowo_deploy/backends/trt.py:TensorRtBackend._load": "in __init__",
    "yowo_deploy/backends/trt.py:TensorRtBackend._execute": "in _turn, and in __init__",
    "yowo_deploy/video/writer.py:_OpenCvVp8.__init__": "in VideoWriter",
    "yowo_deploy/video/writer.py:_OpenCvVp8.close": "in VideoWriter",
    "yowo_deploy/video/writer.py:_PyAv.__init__": "in VideoWriter",
    "yowo_deploy/video/writer.py:_PyAv.write": "in VideoWriter",
    "yowo_deploy/video/writer.py:_PyAv.close": "in VideoWriter",
    "yowo_deploy/video/pyav.py:AvCapture.__init__": "in reader._open_by_pyav",
    "yowo_deploy/model_files/streaming_form.py:_inflated": "in streaming_form",
    "yowo_deploy/json_text.py:parse_json": "of the caller, see its errors",
    "yowo_deploy/json_text.py:strict_json": "of the caller, see its errors",
    "yowo_deploy/datasets/box_files.py:_csv_by": "in read_boxes, read_excluded, recognise and import_annotations",
    "yowo_deploy/video/mov_claims.py:_refuse_header": "in refuse_absurd_tables",
    "yowo_deploy/serving/recorded.py:_parsed": "in Recording.__init__",
    "yowo_deploy/serving/tensors.py:_json": "what json raises, and no more, is 400 in HTTP",
    "yowo_deploy/serving/bodies.py:_append": "what zlib raises, and no more, is 400 in HTTP",
    "yowo_deploy/serving/triton_model.py:TritonPythonModel.initialize": "Triton wrote it, and reports what is raised",
    "yowo_deploy/serving/client.py:main": "an example to copy",
    "training/yowo_training/checkpoints/archive.py:_check_zip": "in checked_content",
    "training/yowo_training/checkpoints/checkpoint.py:_with_checksum": "it was written a moment ago",
    "yowo_deploy/archive/settings.py:Stamp.differences": "it was written a moment ago",
    "training/yowo_training/recipes.py:fields_of": "it was written a moment ago",
    "training/yowo_training/checkpoints/resume.py:is_over": "one has it, the other was written a moment ago",
    "training/yowo_training/models/backbones/efficientnet.py:EfficientNetLite0.load_imagenet": "of a package",
    "export/yowo_export/parity/report.py:_picture": "it was written a moment ago",
}


def without_door(tree: ast.AST, place: str = "", behind: bool = False) -> Iterator[str]:
    """The function of every foreign call that no `with foreign(...)` surrounds."""
    for node in ast.iter_child_nodes(tree):
        here, inside = place, behind
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            here, inside = f"{place}.{node.name}".lstrip("."), False
        if isinstance(node, ast.With):
            opened = {ast.unparse(item.context_expr).partition("(")[0].rpartition(".")[2] for item in node.items}
            inside = behind or bool(DOORS & opened)
        if isinstance(node, ast.Call) and not behind and _is_foreign(node.func):
            yield here
        yield from without_door(node, here, inside)


def _is_foreign(called: ast.expr) -> bool:
    return ast.unparse(called) in FUNCTIONS or (isinstance(called, ast.Attribute) and called.attr in METHODS)


def test_every_foreign_call_has_a_door(product_modules: dict[str, Path], project_root: Path) -> None:
    found = {
        f"{file.relative_to(project_root).as_posix()}:{where}"
        for file in product_modules.values()
        for where in without_door(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found - set(ELSEWHERE) == set(), "wrap these in `errors.foreign`, or name the place of their door"
    assert set(ELSEWHERE) - found == set(), "these need no mention any more"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n with foreign('x'):\n  json.loads(t)", []),
        ("def f():\n with self._door(), open(x):\n  json.loads(t)", []),
        ("def f():\n with open(x):\n  json.loads(t)", ["f"]),
        ("def f():\n with foreign('x'), zipfile.ZipFile(t):\n  pass", []),
        ("class A:\n def f():\n  try:\n   session.InferenceSession(t)\n  except ValueError:\n   pass", ["A.f"]),
        ("def f():\n with foreign('x'):\n  def g():\n   np.load(t)", ["f.g"]),
        ("def f():\n json.dumps(t)", []),
    ],
)
def test_the_rule_tells_with_from_without(source: str, found: list[str]) -> None:
    assert list(without_door(ast.parse(source))) == found


def test_no_file_is_mapped_into_memory(project_root: Path) -> None:
    """One that another program cuts off meanwhile would end the process with SIGBUS."""
    files = [file for top in ("yowo_deploy", "export", "training") for file in (project_root / top).rglob("*.py")]
    assert [file for file in files if re.search(r"\bmem?map\b|mmap_mode|mmap=True", file.read_text())] == []
