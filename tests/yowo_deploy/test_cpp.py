"""The C++ runtime beside Python's: the same golden data, files, frames, detections and tubes; and through C."""

from __future__ import annotations

import base64
import ctypes
import dataclasses
import json
import operator
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import yowo_deploy
from tests.hostile.onnx_files import SPEC as HOSTILE_SPEC
from tests.hostile.onnx_files import file as onnx_file
from tests.hostile.onnx_files import mutants, random_graphs
from tests.hostile.onnx_files import onnx_files as hostile_onnx_files
from tests.hostile.spec_texts import PLAN_VALUES, plan_texts, spec_texts, spoiled_json
from tests.hostile.spec_texts import in_plan as record_in_plan
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.detector import Detector
from yowo_deploy.errors import YowoError
from yowo_deploy.model_files import plan_record
from yowo_deploy.model_files.checksum import ONNX_MARK, with_checksum
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import checked_file, read_onnx_file, read_spec
from yowo_deploy.model_files.plan_record import PlanFile, read_plan, write_plan
from yowo_deploy.model_files.streaming_form import FORM_KEY, streaming_form
from yowo_deploy.preprocess.cuts import CutDetector
from yowo_deploy.preprocess.frames import resize
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_export import export

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

# Names of the tests in core.cpp and bits.cpp that need the golden data alone.
CORE = (
    "specs_are_those_of_python",
    "a_clip_is_the_newest_frames_and_the_first_stands_for_those_before",
    "frame_by_frame_gives_what_the_clip_gives",
    "a_step_that_fails_costs_that_frame_alone",
    "what_is_no_streaming_file_is_refused",
    "between_the_frames_that_are_asked_for_boxes_stay",
    "several_calls_at_once_give_what_one_gives",
    "streams_of_a_pool_give_what_each_gives_alone",
    "nothing_is_allocated_once_the_stream_runs",
    "a_frame_without_memory_for_it_changes_nothing",
    "a_message_is_one_line_that_commands_no_terminal",
    "a_file_for_several_clips_a_call_is_not_to_be_exported_again_as_it_was",
    "wrong_frames_and_answers_are_errors_that_say_what_to_do",
    "people_are_followed_until_the_size_of_frames_changes",
    "versions_of_libraries_follow_from_their_numbers",
    "results_are_one_line_of_json",
    "what_the_fuzzer_began_with_is_read",
)
BITS = (
    "planes_are_those_of_python",
    "every_byte_is_normalised_to_its_bits",
    "detections_are_those_of_python",
    "tubes_are_those_of_python",
    "zones_are_those_of_python",
)
TOOLS = {"form", "inspect", "inspect_all", "plan_fits", "speed"}


def found(name: str) -> str | None:
    """A program of this environment or of the machine."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def tool(name: str) -> str:
    """A program that is needed; skips without it."""
    return found(name) or pytest.skip(f"no {name} on this machine, so that no C++ can be built")


def cmake(source: Path, build: Path, *options: str, target: str = "all") -> None:
    """Configure and build; both must succeed."""
    ninja = found("ninja")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    for command in (
        ["-S", source, "-B", build, *generator, *options],
        ["--build", build, "--parallel", "2", "--target", target],
    ):
        made = subprocess.run([tool("cmake"), *map(str, command)], capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr


def openvino_option() -> str:
    """Where CMake finds OpenVINO's wheel."""
    openvino = pytest.importorskip("openvino.utils")
    return f"-DOpenVINO_DIR={openvino.get_cmake_path()}"


@pytest.fixture(scope="session")
def built(made_once: MadeOnce, project_root: Path) -> Path:
    """The folder with `core`, `bits`, `live` and `library/libyowo.so`."""
    tool("g++")
    options = (openvino_option(), "-DYOWO_QUICK=ON")
    return made_once("cpp", lambda folder: cmake(project_root / "tests" / "cpp", folder, *options))


def core(built: Path, *words: object, program: str = "core") -> str:
    """What one test of `core` or `bits` prints; it must succeed."""
    done = subprocess.run([built / program, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", CORE + BITS)
def test_in_cpp(name: str, built: Path, project_root: Path) -> None:
    assert core(built, name, project_root / "tests" / "golden", program="bits" if name in BITS else "core") == ""


def test_what_the_fuzzer_found_is_read(built: Path, project_root: Path, tmp_path: Path) -> None:
    """The test of the corpus once more: it looks in `../cpp/corpus` of the folder it is given."""
    with zipfile.ZipFile(project_root / "tests" / "cpp" / "corpus.zip") as found:
        found.extractall(tmp_path / "cpp" / "corpus")
    (tmp_path / "golden").mkdir()
    assert core(built, "what_the_fuzzer_began_with_is_read", tmp_path / "golden") == ""


def test_no_cpp_test_is_forgotten(built: Path) -> None:
    assert set(core(built).split()) == {*CORE, *TOOLS}
    assert set(core(built, program="bits").split()) == {*BITS, "resize", "cuts"}


@pytest.mark.parametrize("resize_filter", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(320, 240, 224, 224), (341, 257, 224, 224), (640, 361, 416, 288), (99, 80, 224, 224)])
def test_frames_are_resized_to_the_same_bits(
    size: tuple[int, int, int, int], resize_filter: Any, built: Path, tmp_path: Path
) -> None:
    width, height, width_out, height_out = size
    frame = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    frame.tofile(tmp_path / "in")
    core(built, "resize", resize_filter, *size, tmp_path / "in", tmp_path / "out", program="bits")
    made = np.fromfile(tmp_path / "out", np.uint8).reshape(3, height_out, width_out).transpose(1, 2, 0)
    assert np.array_equal(made, resize(frame, (width_out, height_out), resize_filter))


def onnx_files(make: Callable[..., Any], spec: ModelSpec) -> Iterator[tuple[str, bytes]]:
    """Files that carry a spec, and files that must be refused."""
    onnx = pytest.importorskip("onnx")
    odd = {"mean": (0.1, 0.25, 1 / 3), "std": (0.5, 2.0, 0.7), "nms_threshold": 0.45, "colour": "bgr", "name": 'a "b"'}
    spec = spec.replace(**odd, resize_filter="bicubic", attention_sign="release", precision="fp16")
    good = make(spec).SerializeToString()
    yield "good", good
    yield "no spec", make(spec, said="{}").SerializeToString()
    yield "newer", make(spec, said=json.dumps(spec.to_dict() | {"format_version": 9})).SerializeToString()
    yield "cut", good[:-700]
    yield "text", b"hello, this is no model"
    node = onnx.helper.make_node("Loop", ["clip"], ["raw"])
    yield "foreign operator", make(spec, nodes=[node]).SerializeToString()
    outside = make(spec)
    outside.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    yield "external", outside.SerializeToString()
    functions = make(spec)
    functions.functions.add().name = "f"
    yield "functions", functions.SerializeToString()
    bare = make(spec)
    del bare.metadata_props[:]
    yield "without metadata", bare.SerializeToString()
    yield "no graph", bare.opset_import[0].SerializeToString()


def inspected(built: Path, file: Path, *words: str) -> tuple[str, str]:
    """What C++ says of a file: "plan" or "onnx" and its spec as JSON, or an error's name and text."""
    kind, _, said = core(built, "inspect", file, *words).partition(" ")
    return kind, said


def spec_of(said: str) -> ModelSpec:
    values = json.loads(said)
    assert list(values) == [field.name for field in dataclasses.fields(ModelSpec)]
    return ModelSpec.from_dict(values)


def test_onnx_files_are_accepted_and_refused_as_in_python(
    onnx_model: Callable[..., Any], spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    kinds = set()
    for name, content in onnx_files(onnx_model, spec):
        file = tmp_path / f"{name}.onnx"
        file.write_bytes(content)
        try:
            known = read_spec(file)
            expected, (kind, said) = ("onnx", ""), inspected(built, file)
            assert kind == "onnx" and spec_of(said) == known
        except YowoError as error:
            expected = (type(error).__name__, str(error))
            assert inspected(built, file)[0] == expected[0], name
            assert inspected(built, file)[1][:60] == str(error)[:60], name
        kinds.add(expected[0])
    assert kinds == {"onnx", "SpecError", "ModelFileError"}


def test_a_checksum_is_verified_as_in_python(
    onnx_model: Callable[..., Any], spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sealed.onnx"
    file.write_bytes(onnx_model(spec).SerializeToString())
    file.write_bytes(with_checksum(file.read_bytes()))
    whole = file.read_bytes()
    assert inspected(built, file)[0] == "onnx"
    damaged = [bytearray(whole) for _ in range(0, len(whole), len(whole) // 20)]
    for number, content in enumerate(damaged):
        content[min(number * len(whole) // 20, len(whole) - 1)] ^= 1 << number % 8
    mark, digits = bytearray(whole), bytearray(whole)
    mark[5] ^= 2
    digits[len(ONNX_MARK)] ^= 1
    for content in (*damaged, mark, digits, whole + bytes([14 << 3 | 2, 0]), whole[:-4]):
        file.write_bytes(content)
        with pytest.raises(YowoError) as refused:
            read_spec(file)
        assert inspected(built, file) == (type(refused.value).__name__, str(refused.value))


def said_by_python(file: Path) -> str:
    try:
        return "plan" if plan_record.is_plan(file) and read_plan(file) else "onnx" if read_spec(file) else ""
    except YowoError as error:
        return type(error).__name__


def verdicts(built: Path, files: Sequence[Path]) -> list[str]:
    """The first word of what C++ says of each."""
    names = files[0].parent / "names"
    names.write_text("".join(f"{file}\n" for file in files))
    return [line.split(" ", 1)[0] for line in core(built, "inspect_all", names).splitlines()]


@pytest.mark.parametrize("kind", ["made by hand", "graphs at random", "mutants"])
def test_onnx_files_get_the_verdict_of_python(kind: str, built: Path, tmp_path: Path) -> None:
    by_hand = {name: content for name, (content, _) in hostile_onnx_files().items()}
    contents = {
        "made by hand": list(by_hand.values()),
        "graphs at random": list(random_graphs(600, seed=22)),
        "mutants": list(mutants(by_hand["the good file"], 300, seed=22)),
    }[kind]
    files = [tmp_path / f"{number}.onnx" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    expected = [said_by_python(file) for file in files]
    assert [*zip(files, verdicts(built, files), strict=True)] == [*zip(files, expected, strict=True)]
    assert expected.count("onnx") >= len(expected) / 40 and expected.count("ModelFileError") > len(expected) / 2


@pytest.mark.parametrize("kind", ["specs", "plans", "specs at random", "plans at random"])
def test_specs_and_records_get_the_verdict_of_python(kind: str, built: Path, tmp_path: Path) -> None:
    generator, values = random.Random(22), PLAN_VALUES if "plans" in kind else HOSTILE_SPEC.to_dict()
    by_hand = plan_texts() if "plans" in kind else spec_texts()
    texts = [spoiled_json(values, generator) for _ in range(400)] if "random" in kind else list(by_hand)
    files = [tmp_path / f"{number}" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(record_in_plan(text) if "plans" in kind else onnx_file(spec=text))
    expected = [said_by_python(file) for file in files]
    found = verdicts(built, files)
    different = [(text[:300], *each) for text, *each in zip(texts, found, expected, strict=True) if each[0] != each[1]]
    assert different == []
    assert len(set(expected)) > 1 and expected.count("SpecError") + expected.count("ModelFileError") > len(texts) / 2


def test_damaged_files_are_accepted_and_refused_as_in_python(built: Path, tmp_path: Path, project_root: Path) -> None:
    rng, file, seen = np.random.default_rng(11), tmp_path / "damaged", set()
    corpus = project_root / "tests" / "cpp" / "corpus"
    for _ in range(60):
        for name in ("onnx", "plan"):
            content = bytearray((corpus / name).read_bytes()[1:])
            at, length = rng.integers(len(content)), rng.integers(1, 9)
            content[at : at + length] = bytes(rng.integers(32, 127, rng.integers(0, length + 1), np.uint8))
            file.write_bytes(content)
            expected = said_by_python(file)
            assert inspected(built, file)[0] == expected, bytes(content)
            seen.add(expected)
    assert seen == {"onnx", "plan", "ModelFileError", "SpecError"}


def plan_of(spec: ModelSpec) -> PlanFile:
    return PlanFile(spec, "tensorrt", "10.8.0", "8.9", "ab" * 32, (1, 2, 4))


def in_plan(plan: PlanFile) -> tuple[bytes, str]:
    """The bytes of what TensorRT would write around our record, and the text beside it."""
    name, beside = plan_record.to_name(plan)
    return b"ftrt" + b"\0" * 999 + name.encode() + b"\0" * 99, beside


@pytest.mark.parametrize("classes", [3, 150, 900])  # in the name, and, from some 100 on, in a file beside
def test_a_plan_carries_the_spec_that_python_reads(classes: int, spec: ModelSpec, built: Path, tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "a.plan"
    spec = spec.replace(labels=tuple(f"number {number} of many {rng.bytes(9).hex()}|" for number in range(classes)))
    content, beside = in_plan(plan_of(spec))
    write_plan(file, content, beside)
    assert bool(beside) == (classes > 100)
    assert read_plan(file).spec == spec
    kind, said = inspected(built, file, "verify")
    assert kind == "plan" and spec_of(said) == spec
    if beside:
        (tmp_path / "a.plan.json").write_text(beside + " ")
        kind, said = inspected(built, file)
        assert kind == "SpecError" and "is not the spec that" in said


def test_a_compressed_record_is_refused_with_the_way_out(spec: ModelSpec, built: Path, tmp_path: Path) -> None:
    file = tmp_path / "old.plan"
    packed = base64.b64encode(zlib.compress(json.dumps(dataclasses.asdict(plan_of(spec))).encode())).decode()
    file.write_bytes(b"ftrt" + b"\0" * 999 + plan_record._sealed("zlib", packed).encode() + b"\0" * 99)
    assert read_plan(file).spec == spec
    kind, said = inspected(built, file)
    assert kind == "ModelFileError" and "is compressed" in said and "rebuild the plan with `yowo-deploy build`" in said


def test_damaged_plans_are_refused_as_in_python(spec: ModelSpec, built: Path, tmp_path: Path) -> None:
    content, _ = in_plan(plan_of(spec))
    broken = {
        "letter": content.replace(b"walk", b"talk"),
        "cut": content[:1300],
        "no record": content[:500],
        "length": b"vtrt" + content[4:],
        "json": content.replace(b" json ", b" yaml "),
    }
    for name, damaged in broken.items():
        file = tmp_path / name
        file.write_bytes(damaged)
        with pytest.raises(YowoError) as error:
            read_plan(file)
        kind, said = inspected(built, file)
        assert (kind, said[:40]) == (type(error.value).__name__, str(error.value)[:40]), name
    whole = tmp_path / "whole.plan"
    whole.write_bytes(content)
    assert "has no recorded hash" in inspected(built, whole, "verify")[1]
    assert inspected(built, whole, "trust")[0] == "plan"
    (tmp_path / "whole.plan.sha256").write_text("0" * 64 + "  whole.plan\n")
    assert "is not what was built" in inspected(built, whole, "verify")[1]


@pytest.mark.parametrize(
    ("flavour", "version", "capability", "fits"),
    [
        ("tensorrt", "10.8.0", "8.9", True),
        ("tensorrt", "10.8.0.43", "8.9", True),
        ("tensorrt", "10.8.1", "8.9", False),
        ("tensorrt", "10.8.0", "9.0", False),
        ("tensorrt-rtx", "10.8.0", "8.9", False),
    ],
)
def test_a_plan_for_another_machine_is_refused_as_in_python(
    flavour: Any, version: str, capability: str, fits: bool, spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    file, plan = tmp_path / "a.plan", plan_of(spec)
    file.write_bytes(in_plan(plan)[0])
    said = core(built, "plan_fits", file, flavour, version, capability)
    if fits:
        plan_record.check_plan(file, plan, plan_record.Machine(flavour, version, capability))
        assert said == "fits"
    else:
        with pytest.raises(YowoError, match=r"built for SM 8\.9"):
            plan_record.check_plan(file, plan, plan_record.Machine(flavour, version, capability))
        assert "built for SM 8.9 with tensorrt 10.8.0" in said and "rebuild" in said


@pytest.mark.parametrize("size_wh", [(320, 240), (97, 61), (47, 200), (1280, 720), (33, 31), (20, 20)])
def test_cuts_are_those_of_python(size_wh: tuple[int, int], built: Path, tmp_path: Path) -> None:
    """Scenes, light, noise and movement, many of them near the thresholds."""
    rng, frames = np.random.default_rng(size_wh), np.zeros((90, size_wh[1], size_wh[0], 3), np.uint8)
    for number in range(1, len(frames)):
        now = frames[number - 1].astype(float)
        if number % 6 == 0:
            now = rng.integers(0, rng.integers(60, 257), now.shape)
        elif number % 2:
            now = np.roll(now, 7, axis=1) + rng.uniform(-45, 45) + rng.normal(0, rng.uniform(0, 9), now.shape)
        frames[number] = np.clip(now, 0, 255)
    frames.tofile(tmp_path / "frames")
    detector = CutDetector()
    expected = "".join(str(int(detector.push(frame))) for frame in frames)
    assert core(built, "cuts", *size_wh, tmp_path / "frames", program="bits") == expected
    assert ("1" in expected) == (size_wh not in ((33, 31), (20, 20))) and "00" in expected


def real_clip(data_dir: Path) -> NDArray[np.uint8]:
    """Every frame of a J-HMDB clip."""
    with open_video(data_dir / "jhmdb21/videos/golf/Ariya_Swing_golf_f_cm_np1_fr_bad_0.avi") as video:
        return np.stack(list(video))


Options = dict[str, Any]
SHOWN: list[Options] = [
    {},
    {"clips": True, "parallel": 2},
    {"confidence": 0.01, "keep": 0.0, "tube_scores": False},
    {"confidence": 0.3, "keep": 0.1, "tube_scores": True, "cuts": False, "every": 3},
]


def compare(
    frames: NDArray[np.uint8], model: Path, built: Path, tmp_path: Path, options: Options, engine: str = "openvino"
) -> int:
    """Results of C++ and Python, equal to the bit as both run one engine; returns how many boxes are shown."""
    frames.tofile(tmp_path / "frames")
    given = [f"backend={engine}", *(f"{name}={float(value)}" for name, value in options.items())]
    words = [built / "live", model, tmp_path / "frames", str(frames.shape[2]), str(frames.shape[1]), *given]
    live = subprocess.run(words, capture_output=True, text=True, check=True)
    *lines, last = map(json.loads, live.stdout.splitlines())
    count = 0
    with Detector.open(model, backend=engine, **options) as detector:
        detector.reset('a "film"')
        for number, (line, frame) in enumerate(zip(lines, frames, strict=True)):
            result = detector.push(frame, timestamp=None if "parallel" in options else number / 30)
            expected = json.loads(result.to_json())
            assert line["json"] == expected and [*line["json"]] == [*expected]
            same_arrays(line["found"], result.detections)
            same_tubes(line["tubes"], result.tubes)
            same_tubes(line["ended"], result.ended)
            count += len(result.detections)
        same_tubes(last["tubes"], detector.finish())
    return count


def same_arrays(told: dict[str, Any], expected: Detections | Tube) -> None:
    """Every field that C++ gives is Python's, to the bit."""
    for name, values in told.items():
        found = getattr(expected, name)
        assert np.ravel(found).tolist() == (values if isinstance(values, list) else [values]), name


def same_tubes(told: list[dict[str, Any]], tubes: Sequence[Tube]) -> None:
    assert len(told) == len(tubes)
    for found, tube in zip(told, tubes, strict=True):
        same_arrays(found, tube)


@pytest.mark.parametrize("options", SHOWN)
def test_a_real_clip_gives_the_results_of_python(options: Options, data_dir: Path, built: Path, tmp_path: Path) -> None:
    assert compare(real_clip(data_dir)[:24], model_path("default"), built, tmp_path, options) >= 18


@pytest.mark.parametrize("options", [{}, {"confidence": 0.05}])
def test_people_stay_by_the_objectness_of_python(
    options: Options, onnx_model: Callable[..., Any], spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    """Above the score by which they appear, as in the shipped model."""
    said = spec.replace(confidence_threshold=0.15, keep_threshold=0.6, tube_decay=0.9)
    (tmp_path / "m.onnx").write_bytes(onnx_model(said).SerializeToString())
    assert compare(noise(12), tmp_path / "m.onnx", built, tmp_path, options) >= 12


def test_a_file_that_decodes_its_output_itself_gives_the_results_of_python(built: Path, tmp_path: Path) -> None:
    """From "raw", the first of its outputs."""
    model = export("default", tmp_path / "m.onnx", decode=True)
    options = {"confidence": 0.001, "keep": 0.0005, "clips": True}
    assert compare(noise(12), model, built, tmp_path, options) >= 6


@pytest.mark.parametrize("clips", [False, True])
def test_a_pool_gives_the_results_of_python(clips: bool, built: Path, tmp_path: Path) -> None:
    compare_pool(clips, built, tmp_path)


def compare_pool(clips: bool, built: Path, tmp_path: Path, engine_name: str = "openvino") -> None:
    """Three streams of the default model over one engine, two calls at once."""
    frames = np.random.default_rng(3).integers(0, 256, (6, 60, 80, 3), np.uint8)
    frames.tofile(tmp_path / "frames")
    words = [built / "live", "default", tmp_path / "frames", "80", "60", "confidence=0.0002", "keep=0", "parallel=2"]
    words.append(f"backend={engine_name}")
    live = subprocess.run([*words, "pool=3", f"clips={int(clips)}"], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in live.stdout.splitlines()]
    with open_model("default", engine_name, parallel=2, streaming=None if clips else "many") as engine:
        for name in "012":
            detector = Detector(engine, 0.0002, keep=0.0)
            detector.reset(name)
            expected = [json.loads(detector.push(frame).to_json()) for frame in frames]
            assert [line for line in found if line["source"] == name] == expected
            assert sum(len(line["detections"]) for line in expected) > 6


@pytest.fixture(scope="module")
def streaming_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's streaming form in a file of its own, with two frames between those of a clip."""
    form = streaming_form(read_onnx_file(model_path("default")))
    assert form is not None
    metadata = {METADATA_KEY: form.spec.replace(frame_stride=2).to_json()}
    path: Path = tmp_path_factory.mktemp("streaming") / "m.onnx"
    path.write_bytes(replace(form, metadata=metadata).file_bytes())
    return path


@pytest.mark.parametrize("options", [{"confidence": 0.001, "keep": 0.0005}, {"confidence": 0.001, "every": 2}])
def test_a_streaming_file_gives_the_results_of_python(
    options: Options, streaming_file: Path, built: Path, tmp_path: Path
) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (12, 60, 80, 3), np.uint8)
    assert compare(frames, streaming_file, built, tmp_path, options) >= 6


def carrying(packed: bytes, onnx_model: Callable[..., Any], spec: ModelSpec, text: str = "") -> bytes:
    """A file of clips that says this of its streaming form: bytes that are packed, or a text as it is."""
    model = onnx_model(spec)
    entry = model.metadata_props.add()
    entry.key, entry.value = FORM_KEY, text or base64.b64encode(packed).decode()
    content: bytes = model.SerializeToString()
    return content


def packed_forms(graph: bytes) -> Iterator[bytes]:
    """A graph in every kind of block, and damaged in every way."""
    for level, strategy in ((9, zlib.Z_DEFAULT_STRATEGY), (0, 0), (6, zlib.Z_FIXED), (6, zlib.Z_HUFFMAN_ONLY)):
        deflater = zlib.compressobj(level, strategy=strategy)
        yield (whole := deflater.compress(graph) + deflater.flush())
    yield from (whole[:-1], whole + b"\0", b"", whole[2:], zlib.compress(b"\0" * (5 << 20)))
    rng = np.random.default_rng(27)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        yield bytes(damaged)


def test_streaming_forms_are_unpacked_and_refused_as_in_python(
    onnx_model: Callable[..., Any], spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    file, made = tmp_path / "m.onnx", tmp_path / "form.onnx"
    graph, kinds = onnx_model(spec).SerializeToString(), set()
    contents = [carrying(packed, onnx_model, spec) for packed in packed_forms(graph)]
    contents += [carrying(b"", onnx_model, spec, text) for text in ("!", "abc", "=abc", "ab=c", "abc=abcd", "abcd====")]
    contents.append(carrying(zlib.compress(b"no graph"), onnx_model, spec))
    contents.append(carrying(zlib.compress(graph), onnx_model, spec.replace(streaming=True)))
    for content in contents:
        file.write_bytes(content)
        said = core(built, "form", file, made)
        try:
            form = streaming_form(read_onnx_file(file))
            assert said == ("streaming" if form else "clips") or file.read_bytes()
            if form:
                assert checked_file(made.read_bytes(), made).graph == form.graph
        except YowoError as error:
            assert said.partition(" ")[0] == type(error).__name__ and said[:60] == f"ModelFileError {error}"[:60]
        kinds.add(said.split()[0])
    assert kinds == {"streaming", "ModelFileError"}


def test_the_default_model_s_streaming_form_is_python_s(built: Path, tmp_path: Path) -> None:
    """Its own graph, and the weights that it shares with the graph of clips."""
    form = streaming_form(read_onnx_file(model_path("default")))
    assert form is not None and core(built, "form", model_path("default"), tmp_path / "made") == "streaming"
    made = checked_file((tmp_path / "made").read_bytes(), tmp_path / "made")
    assert made.graph.nodes == form.graph.nodes and made.graph.inputs == form.graph.inputs
    key = operator.attrgetter("name")
    assert sorted(made.graph.tensors, key=key) == sorted(form.graph.tensors, key=key)


@pytest.mark.parametrize("cuts", [True, False])
def test_a_hard_cut_ends_tubes_as_in_python(cuts: bool, small_model: Path, built: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    dark, light = (rng.integers(low, low + 90, (8, 60, 80, 3), np.uint8) for low in (0, 160))
    options = {"confidence": 0.01, "cuts": cuts}
    frames = np.concatenate([dark, light])
    with Detector.open(small_model, backend="openvino", **options) as detector:
        ended = [len(detector.push(frame).ended) for frame in frames]
    assert bool(ended[8]) == cuts
    assert compare(frames, small_model, built, tmp_path, options) >= 16


@pytest.mark.parametrize(
    "options",
    [{"confidence": 0.0002, "keep": 0.0, "tube_scores": False}, {"confidence": 0.001, "keep": 0.0005}],
)
def test_noise_gives_the_results_of_python(options: Options, built: Path, tmp_path: Path) -> None:
    """Of the shipped model, whose best scores here are some 0.003."""
    frames = np.random.default_rng(3).integers(0, 256, (20, 60, 80, 3), np.uint8)
    assert compare(frames, Path("default"), built, tmp_path, options) >= 20


@pytest.fixture(scope="session")
def small_model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


def noise(frames: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (frames, 30, 40, 3), np.uint8)


@pytest.mark.parametrize("options", [{"confidence": 0.01}, {"confidence": 0.3, "keep": 0.2, "tube_scores": True}])
def test_frames_of_noise_give_the_results_of_python(
    options: Options, small_model: Path, built: Path, tmp_path: Path
) -> None:
    assert compare(noise(25), small_model, built, tmp_path, options) >= 25


@pytest.mark.parametrize("streaming", [False, True])
def test_a_flow_branch_gives_the_results_of_python(streaming: bool, built: Path, tmp_path: Path) -> None:
    """Three branches, the third of which reads flow that the graph computes."""
    import torch

    from yowo_export.exporter import export_onnx
    from yowo_export.streaming.rewrite import export_streaming
    from yowo_training.checkpoints.checkpoint import Checkpoint
    from yowo_training.models.yowo import Yowo, YowoConfig

    torch.manual_seed(0)
    spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(64, 64))
    config = YowoConfig("tiny2d", "tiny3d", spec.output_channels, width=16, backbone_extra="tiny3d")
    model = tmp_path / "flow.onnx"
    export_onnx(Checkpoint(Yowo(config).eval(), spec), model)
    if streaming:
        export_streaming(model, tmp_path / "streaming.onnx")
        model = tmp_path / "streaming.onnx"
    kind, said = inspected(built, model)
    assert kind == "onnx" and spec_of(said) == read_spec(model)
    assert ("backbone_extra", "flow", "clip") in spec_of(said).branches
    assert compare(noise(20), model, built, tmp_path, {"confidence": 0.01}) >= 20


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere.onnx", "is not there"),
        ("text.onnx", "is not an ONNX file"),
        ("empty.onnx", "is empty"),
        ("", "is a folder, a pipe or a device"),
        ("pipe", "is a folder, a pipe or a device"),  # which would be waited for
        ("link", "is a folder, a pipe or a device"),
        ("circle", "is not there"),
    ],
)
def test_a_wrong_file_is_one_line(model: str, said: str, built: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("link", "pipe"), ("circle", "circle")):
        (tmp_path / name).symlink_to(target)
    done = subprocess.run([built / "live", tmp_path / model, "x", "8", "8"], capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_file_that_takes_bytes_is_refused_in_one_line(
    onnx_model: Callable[..., Any], spec: ModelSpec, built: Path, tmp_path: Path
) -> None:
    """Its spec is read; one that takes another type than its spec says has the verdict of Python."""
    onnx = pytest.importorskip("onnx")
    model = onnx_model(spec, said=spec.replace(input_type="uint8").to_json())
    (tmp_path / "lied.onnx").write_bytes(model.SerializeToString())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    name, cast = model.graph.input[0].name, onnx.helper.make_node("Cast", ["bytes"], ["floats"], to=1)
    model.graph.input[0].name = "bytes"
    for node in model.graph.node:
        node.input[:] = ["floats" if each == name else each for each in node.input]
    model.graph.node.insert(0, cast)
    (tmp_path / "bytes.onnx").write_bytes(model.SerializeToString())
    kind, said = inspected(built, tmp_path / "bytes.onnx")
    found = spec_of(said)
    assert kind == "onnx" and found == read_spec(tmp_path / "bytes.onnx") and found.input_type == "uint8"
    done = subprocess.run([built / "live", tmp_path / "bytes.onnx", "x", "8", "8"], capture_output=True, text=True)
    assert done.returncode == 1 and "takes uint8, which runs in Python alone" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(YowoError, match="takes float32, its spec says uint8") as refused:
        read_spec(tmp_path / "lied.onnx")
    assert inspected(built, tmp_path / "lied.onnx") == ("SpecError", str(refused.value))


class Detection(ctypes.Structure):
    """`yowo_detection`."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("x1", "y1", "x2", "y2", "confidence")),
        ("class_id", ctypes.c_int32),
        ("tracker_id", ctypes.c_int64),
    )


class COptions(ctypes.Structure):
    """`yowo_options`."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        *((name, ctypes.c_char_p) for name in ("backend", "device", "precision")),
        ("threads", ctypes.c_int32),
        ("trust", ctypes.c_int32),
        ("confidence", ctypes.c_double),
        ("iou", ctypes.c_double),
        ("keep", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("tube_scores", "cuts", "every", "clips")),
    )


@pytest.fixture(scope="session")
def library(built: Path) -> ctypes.CDLL:
    """libyowo.so, loaded in a process that has Python's OpenVINO, which is the same one."""
    loaded = ctypes.CDLL(str(next((built / "library").glob("libyowo.so"))))
    loaded.yowo_last_error.restype = loaded.yowo_version.restype = ctypes.c_char_p
    loaded.yowo_push.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int64]
    return loaded


def opened(library: ctypes.CDLL, path: Path, **given: Any) -> ctypes.c_void_p:
    detector, options = ctypes.c_void_p(), COptions()
    assert library.yowo_default_options(ctypes.byref(options)) == 0
    for name, value in given.items():
        setattr(options, name, value)
    code = library.yowo_open(str(path).encode(), ctypes.byref(options), ctypes.byref(detector))
    assert code == 0, library.yowo_last_error()
    return detector


def pushed(library: ctypes.CDLL, detector: ctypes.c_void_p, frame: Frame) -> list[Detection]:
    found, count = ctypes.POINTER(Detection)(), ctypes.c_size_t()
    height, width, _ = frame.shape
    assert library.yowo_push(detector, frame.ctypes.data, width, height, 0) == 0, library.yowo_last_error()
    assert library.yowo_results(detector, ctypes.byref(found), ctypes.byref(count)) == 0
    return found[: count.value]


@pytest.mark.parametrize("given", [{}, {"confidence": 0.01, "iou": 0.1}, {"keep": 0.1, "tube_scores": 1}])
def test_c_gives_the_detections_of_python(
    given: dict[str, float], library: ctypes.CDLL, small_model: Path, spec: ModelSpec
) -> None:
    detector, label = opened(library, small_model, **given), ctypes.c_char_p()
    with Detector.open(small_model, backend="openvino", **given) as python:
        for frame in noise(6):
            expected = python.push(frame).detections
            found = pushed(library, detector, frame)
            rows = np.array([[getattr(one, name) for name, _ in Detection._fields_] for one in found]).reshape(-1, 7)
            columns = expected.xyxy, expected.confidence, expected.class_id, expected.tracker_id
            assert rows.T.tolist() == np.column_stack(columns).reshape(-1, 7).T.tolist()
    assert library.yowo_label(detector, 1, ctypes.byref(label)) == 0 and label.value == spec.labels[1].encode()
    first = noise(1)[0]
    assert library.yowo_reset(detector) == 0
    afresh = pushed(library, detector, first)
    assert [one.tracker_id for one in afresh] == list(range(len(afresh))) and afresh
    library.yowo_close(detector)


def test_c_opens_the_model_of_the_package(library: ctypes.CDLL) -> None:
    detector, label = opened(library, Path("default")), ctypes.c_char_p()
    assert library.yowo_label(detector, 0, ctypes.byref(label)) == 0
    assert label.value == read_spec(model_path("default")).labels[0].encode()
    library.yowo_close(detector)


def test_c_takes_the_options_of_a_caller_that_knows_fewer(library: ctypes.CDLL, small_model: Path) -> None:
    detector, options = ctypes.c_void_p(), COptions()
    library.yowo_default_options(ctypes.byref(options))
    options.size, options.keep = COptions.keep.offset, 7.0  # beyond what the caller has
    assert library.yowo_open(str(small_model).encode(), ctypes.byref(options), ctypes.byref(detector)) == 0
    library.yowo_close(detector)


@pytest.mark.parametrize(("kind", "code"), [("int8", 1), ("uint8", 0)])
def test_c_refuses_signed_activations_on_openvino(
    kind: str, code: int, library: ctypes.CDLL, small_model: Path, tmp_path: Path
) -> None:
    """As in Python, for files of every exporter: the sums overflow on processors without VNNI."""
    onnx = pytest.importorskip("onnx")
    model, file, detector = onnx.load(small_model), tmp_path / "rounded.onnx", ctypes.c_void_p()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    steps = {"step": np.float32(1 / 127), "zero": np.zeros((), kind)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in steps.items())
    rounding = [
        onnx.helper.make_node("QuantizeLinear", [conv.input[0], *steps], ["rounded"]),
        onnx.helper.make_node("DequantizeLinear", ["rounded", *steps], ["given"]),
    ]
    others = list(model.graph.node)
    at = others.index(conv)
    conv.input[0] = "given"
    others = [*others[:at], *rounding, *others[at:]]
    del model.graph.node[:]
    model.graph.node.extend(others)
    onnx.save(model, file)
    assert library.yowo_open(str(file).encode(), None, ctypes.byref(detector)) == code
    assert code == 0 or b"--target openvino" in library.yowo_last_error()
    library.yowo_close(detector)


def test_c_says_what_is_wrong_and_throws_nothing(library: ctypes.CDLL, small_model: Path, tmp_path: Path) -> None:
    detector, label = ctypes.c_void_p(), ctypes.c_char_p()
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    plan = tmp_path / "a.plan"
    plan.write_bytes(in_plan(plan_of(read_spec(small_model)))[0])
    opening = [(b"nowhere", 1, b"not there"), (str(tmp_path).encode(), 1, b"folder"), (None, 1, b"path is NULL")]
    opening += [(str(text).encode(), 2, b"not an ONNX file"), (str(plan).encode(), 3, b"tensorrt is not compiled in")]
    for path, code, said in opening:
        assert library.yowo_open(path, None, ctypes.byref(detector)) == code
        assert said in library.yowo_last_error() and not detector
    options = COptions(size=4)
    assert library.yowo_open(str(small_model).encode(), ctypes.byref(options), ctypes.byref(detector)) == 1
    assert b"yowo_default_options" in library.yowo_last_error()
    for field, value, code, said in (
        ("backend", b"magic", 1, b"expected one of"), ("backend", b"onnxruntime", 3, b"COMPONENTS onnxruntime"),
        ("device", b"tpu", 1, b"runs on the cpu"), ("precision", b"fp8", 1, b"not in fp8"),
        ("confidence", 7.0, 1, b"0 to 1"), ("keep", 7.0, 1, b"0 to 1"),
    ):  # fmt: skip
        library.yowo_default_options(ctypes.byref(options))
        setattr(options, field, value)
        assert library.yowo_open(str(small_model).encode(), ctypes.byref(options), ctypes.byref(detector)) == code, (
            field
        )
        assert said in library.yowo_last_error() and not detector
    frame, working = noise(1)[0], opened(library, small_model)
    for pointer, width, stride, said in (
        (None, 40, 0, b"null"),
        (frame.ctypes.data, 0, 0, b"0 x 30"),
        (frame.ctypes.data, 40, 119, b"at least 120"),
    ):
        assert library.yowo_push(working, pointer, width, 30, stride) == 1 and said in library.yowo_last_error()
    assert library.yowo_push(None, frame.ctypes.data, 40, 30, 0) == 1 and b"NULL" in library.yowo_last_error()
    assert library.yowo_label(working, 3, ctypes.byref(label)) == 1 and b"class 3 is none" in library.yowo_last_error()
    library.yowo_close(working)
    library.yowo_close(None)


def test_the_header_is_c(project_root: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("#include <yowo/yowo.h>\nint main(void) { yowo_close(0); return YOWO_OK; }\n")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    include = f"-I{yowo_deploy.get_include()}"
    checked = subprocess.run([tool("gcc"), *flags, include, "main.c"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_versions_are_one(library: ctypes.CDLL) -> None:
    assert library.yowo_version().decode() == yowo_deploy.__version__


def test_python_says_where_the_headers_are(project_root: Path) -> None:
    for option, folder, file in (
        ("--include", yowo_deploy.get_include(), "yowo/yowo.hpp"),
        ("--cmakedir", yowo_deploy.get_cmake_dir(), "yowo_deployConfig.cmake"),
    ):
        command = [sys.executable, "-m", "yowo_deploy", option]
        said = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True).stdout
        assert said == f"{folder}\n" and (Path(folder) / file).is_file()


OWN_PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(own CXX)
find_package(yowo_deploy 0.1 CONFIG REQUIRED)
add_executable(own own.cpp)
target_link_libraries(own PRIVATE yowo::yowo)
find_package(yowo_deploy CONFIG QUIET COMPONENTS magic)
if(yowo_deploy_FOUND)
  message(FATAL_ERROR "a component that nobody knows was found")
endif()
"""
OWN_PROGRAM = """
#include <cstdint>
#include <iostream>
#include <vector>
#include <yowo/yowo.hpp>

bool read_frame(std::vector<std::uint8_t>&) { return false; }

int main() try {
  std::vector<std::uint8_t> pixels;
  int width = 0, height = 0, stride = 0;
  README
} catch (const yowo::YowoError& error) {
  std::cout << error.what();
}
"""


def readme_block(project_root: Path, language: str, mark: str) -> str:
    pages = ("README.md", "docs/cpp.md")
    text = "\n".join((project_root / page).read_text(encoding="utf-8") for page in pages)
    return next(block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if mark in block)


def test_the_readme_s_program_is_built_by_the_package(project_root: Path, tmp_path: Path) -> None:
    tool("g++")
    (tmp_path / "CMakeLists.txt").write_text(OWN_PROJECT)
    (tmp_path / "own.cpp").write_text(OWN_PROGRAM.replace("README", readme_block(project_root, "cpp", "push")))
    shutil.copy(model_path("default"), tmp_path / "yowo.onnx")
    cmake(tmp_path, tmp_path / "build", f"-Dyowo_deploy_DIR={yowo_deploy.get_cmake_dir()}")
    said = subprocess.run([tmp_path / "build" / "own"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "an engine for ONNX files is not compiled in: find_package(yowo_deploy CONFIG COMPONENTS openvino)"


@pytest.mark.slow
def test_the_readme_s_commands_build_the_example(project_root: Path, tmp_path: Path) -> None:
    tool("g++"), openvino_option()
    commands = readme_block(project_root, "bash", "cmake -S examples/cpp").replace("build/cpp", str(tmp_path / "build"))
    commands = commands.replace("$(python", f"$({sys.executable}").replace("cmake -S", f"{tool('cmake')} -S")
    commands = commands.replace("cmake --build", f"{tool('cmake')} --build")
    build, _, run = commands.strip().rpartition("\n")
    made = subprocess.run(build, shell=True, cwd=project_root, capture_output=True, text=True)
    if "OpenCV for C++ is not found" in " ".join(made.stderr.split()):
        pytest.skip("no OpenCV for C++ on this machine, which the example draws with")
    assert made.returncode == 0, made.stdout + made.stderr
    writer = cv2.VideoWriter(str(tmp_path / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (40, 30))
    for frame in noise(7):
        writer.write(frame)
    writer.release()
    done = subprocess.run(run, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["frame"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list(range(7))
    drawn = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert sum(1 for _ in iter(drawn.grab, False)) == 7
    program = run.split()[0]
    for arguments, said in (([], "expected: detect VIDEO"), (["nowhere.avi"], "cannot be read as a video")):
        wrong = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert wrong.returncode == 1 and said in wrong.stderr.splitlines()[-1]
