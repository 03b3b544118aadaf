"""Every command as a user types it: results on stdout, one line with a remedy and exit code 1 for bad input."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import inspect
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx as onnx_package
import pytest
import torch
from click.testing import CliRunner, Result

from yowo_deploy.cli import COMMANDS, cli, console
from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.synthetic.generator import ANNOTATIONS, make_synthetic
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.model_files.onnx_reader import COST_KEY
from yowo_training.checkpoints.checkpoint import save_checkpoint
from yowo_training.model_init import build
from yowo_training.recipes import find_recipe
from yowo_training.trainer import Budget, Run


def run(*arguments: object) -> Result:
    """The command in this process; an error of ours is in `exception`, everything else is raised."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, (YowoError, SystemExit)):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_synthetic(folder, videos_train=6, videos_test=6)
    return folder


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    recipe = find_recipe("yowo-tiny")
    spec = recipe.spec(open_dataset("synthetic", data))
    model = build(recipe, spec)
    model.cfam.attention.gamma.data.fill_(0.5)
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    save_checkpoint(path, model, spec, {})
    return path


@pytest.fixture(scope="module")
def onnx(checkpoint: Path) -> Path:
    result = run("export", checkpoint, "--clip", 8)
    path = checkpoint.with_suffix(".onnx")
    assert result.exit_code == 0 and str(path) in result.stdout
    return path


@pytest.fixture(scope="module")
def video(data: Path) -> Path:
    return open_dataset("synthetic", data).videos("test")[0].path


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0 and "Usage" in result.output


def test_training_leaves_a_checkpoint_that_evaluates(data: Path, tmp_path: Path) -> None:
    trained = run("train", "synthetic", "--data", data, "--recipe", "yowo-tiny", "--epochs", 1, "-o", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    best = Path(trained.stdout.strip().splitlines()[-1])
    result = run("evaluate", best, "synthetic", "--data", data, "--every", 8, "--json")
    figures = json.loads(result.stdout)
    assert 0 <= figures["frame_map"] <= 1 and len(figures["per_class"]) == 6 and figures["frames_missing"] == 0


def test_detections_are_kept_for_the_annotations_that_they_were_judged_by(
    data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    arguments = ("synthetic", "--data", copy, "--every", 16, "--json", "--save", tmp_path / "found.txt")
    first = run("evaluate", checkpoint, *arguments)
    assert first.exit_code == 0 and run("evaluate", checkpoint, *arguments).stdout == first.stdout
    annotations = json.loads((copy / ANNOTATIONS).read_text())
    tested = open_dataset("synthetic", copy).videos("test")[0].name
    tube = next(each for each in annotations["tubes"] if each["video"] == tested)
    tube["boxes"], tube["frames"] = tube["boxes"][:-1], tube["frames"][:-1]
    (copy / ANNOTATIONS).write_text(json.dumps(annotations))
    assert "holds other detections" in str(run("evaluate", checkpoint, *arguments).exception)


def test_what_the_user_asks_of_a_run_reaches_it(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = inspect.signature(Run.__init__)
    runs: list[dict[str, Any]] = []

    def note(*arguments: Any) -> None:
        runs.append(signature.bind(None, *arguments).arguments)
        raise InputError("noted")

    monkeypatch.setattr("yowo_training.pipeline.Run", note)
    plain = ("train", "synthetic", "--data", data, "--recipe", "yowo-tiny", "-o", tmp_path / "run")
    told = ("--epochs", 7, "--seed", 3, "--held-out", 0.2, "--resume", "--cache-gb", 0.5, "--device", "cuda:1")
    calls = ((), (*told, "--weights-2d", "a.pt", "--weights-3d", "b.pt", "--fit-anchors"), ("--minutes", 5))
    for more in (*calls, ("--start", checkpoint)):
        assert "noted" in str(run(*plain, *more).exception)
    names = ("budget", "seed", "validation", "weights", "device", "resume", "cache_bytes", "start")
    ours, asked, timed, started = ([each[name] for name in names] for each in runs)
    recipe = find_recipe("yowo-tiny")
    files = {"backbone_2d": "a.pt", "backbone_3d": "b.pt"}
    assert ours == [Budget(None, recipe.epochs), 0, 0.04, {}, "auto", False, None, None]
    assert asked == [Budget(None, 7), 3, 0.2, files, "cuda:1", True, 1 << 29, None]
    assert timed[0] == Budget(5.0, recipe.epochs) and started[-1] == str(checkpoint)
    own, fitted = (each["dataset"].anchors for each in runs[:2])
    assert own == open_dataset("synthetic", data).anchors != fitted
    assert {each["recipe"] for each in runs} == {recipe} and {each["output"] for each in runs} == {tmp_path / "run"}


def test_training_draws_curves_and_has_a_second_name_for_torchrun(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["synthetic", "--data", str(data), "--recipe", "yowo-tiny", "--epochs", "1", "--tensorboard"]
    monkeypatch.setattr(sys, "argv", ["yowo_training", *arguments, "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("yowo_training", run_name="__main__")
    assert ended.value.code in (0, None) and (tmp_path / "run" / "best.pt").exists()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_run_folder_has_what_people_look_for(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its args.json starts the same run again, but for what the command line has otherwise."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    told = ("--recipe", "yowo-tiny", "--batch", 2, "--lr", 3e-3, "--size", "64x96", "--held-out", 0.3)
    first = run("train", "synthetic", "--data", data, *told, "--epochs", 2)
    assert first.exit_code == 0, first.output
    folder = tmp_path / "runs" / "train"
    pictures = {"results.png", "labels.png", "train_batch0.png", "val_batch0_pred.png", "confusion_matrix.png"}
    files = {
        "best.pt",
        "best.safetensors",
        "last.pt",
        "args.json",
        "results.csv",
        "metrics.jsonl",
        "state.pt",
        "BoxPR_curve.png",
    }
    assert {path.name for path in folder.iterdir()} == pictures | files
    assert all(cv2.imread(str(folder / name)) is not None for name in pictures)
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["frame_map"]) >= 0
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "box_loss", "rate", "seconds", "clips_per_s"))
    assert "AP@0.5 %" in first.stderr
    written = json.loads((folder / "args.json").read_text())
    recipe = written["recipe"]
    assert (recipe["batch"], recipe["learning_rate"], recipe["input_size"]) == (2, 3e-3, [64, 96])
    again = run("train", "--config", folder / "args.json", "--epochs", 1)
    assert again.exit_code == 0 and again.stdout.strip() == "runs/train2/best.pt"
    second = json.loads((tmp_path / "runs" / "train2" / "args.json").read_text())
    assert second["recipe"] == recipe and (second["epochs"], second["held_out"]) == (1, written["held_out"])
    longer = run("train", "--config", folder / "args.json", "--epochs", 3, "--resume", "-o", folder)
    assert longer.exit_code == 0, longer.output
    steps = [int(row["step"]) for row in csv.DictReader((folder / "results.csv").open())]
    assert steps == sorted(set(steps)) and steps[:2] == [int(row["step"]) for row in rows] and len(steps) > 2


def test_a_run_is_never_lost_unasked(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -o each run has a folder of its own; into the folder of a run the same command is refused."""
    monkeypatch.chdir(tmp_path)
    arguments = ("train", "synthetic", "--data", data, "--recipe", "yowo-tiny", "--epochs", 1)
    for name in ("train", "train2"):
        done = run(*arguments)
        assert done.exit_code == 0 and done.stdout.strip() == f"runs/{name}/best.pt"
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    refused = run(*arguments, "-o", "runs/train")
    assert "runs/train holds a run: continue with --resume" in str(refused.exception)
    assert run(*arguments, "--resume").stdout.strip() == "runs/train2/best.pt"  # the last one, which is finished
    assert files == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert run(*arguments, "-o", "runs/train", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda g: ["export", g["onnx"], "--half-weights"], "a.onnx"),
        (lambda g: ["features", g["checkpoint"], g["video"]], "features"),
        (lambda g: ["data", "preview", g["data"] / ANNOTATIONS], "a.webm"),
        (lambda g: ["data", "preview", g["data"] / ANNOTATIONS], "a.png"),
    ],
)
def test_a_second_call_into_the_same_place_is_refused(
    data: Path,
    checkpoint: Path,
    onnx: Path,
    video: Path,
    tmp_path: Path,
    call: Callable[[dict[str, Path]], list[object]],
    name: str,
) -> None:
    words = [*call({"data": data, "checkpoint": checkpoint, "onnx": onnx, "video": video}), "-o", tmp_path / name]
    assert run(*words).exit_code == 0
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert files and "--overwrite" in str(run(*words).exception)
    assert files == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert run(*words, "--overwrite").exit_code == 0


def test_a_preview_never_takes_the_place_of_a_video(data: Path) -> None:
    video = next(iter(sorted(data.rglob("*.webm"))), None) or next(iter(sorted(data.rglob("*.avi"))))
    before = video.read_bytes()
    refused = run("data", "preview", data / ANNOTATIONS, "-o", video, "--overwrite")
    assert "is the input itself" in str(refused.exception) and video.read_bytes() == before


def test_a_batch_is_shown_and_nothing_is_trained(data: Path, tmp_path: Path) -> None:
    arguments = ("synthetic", "--data", data, "--recipe", "yowo-tiny", "--show-batch", tmp_path / "batch.png")
    result = run("train", *arguments, "-o", tmp_path / "run")
    assert result.exit_code == 0 and str(tmp_path / "batch.png") in result.stdout
    picture = cv2.imread(str(tmp_path / "batch.png"))
    assert picture is not None and picture.shape[1] > 4 * 128 and picture.shape[0] > 8 * 96
    assert not (tmp_path / "run" / "last.pt").exists()


def test_the_exported_file_scores_what_the_checkpoint_scores(data: Path, checkpoint: Path, onnx: Path) -> None:
    figures = [
        json.loads(run("evaluate", model, "synthetic", "--data", data, "--every", 4, "--json").stdout)
        for model in (checkpoint, onnx)
    ]
    # A detection at the threshold may fall to either side of it; nothing more.
    assert figures[0]["frame_map"] == pytest.approx(figures[1]["frame_map"], abs=5e-4)
    assert figures[0]["recall"] == pytest.approx(figures[1]["recall"], abs=5e-3)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_parity_says_passed_and_why(checkpoint: Path, onnx: Path, video: Path, backend: str) -> None:
    result = run("parity", checkpoint, onnx, "--backend", backend, "--data", video, "--clips", 2, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["passed"] and found["difference"]["clips"] == 2
    table = run("parity", checkpoint, onnx, "--backend", backend, "--clips", 2)
    assert table.stdout.startswith("PASSED")


def test_parity_fails_with_exit_code_1_for_other_weights(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    recipe = find_recipe("yowo-tiny")
    spec = recipe.spec(open_dataset("synthetic", data))
    torch.manual_seed(9)
    save_checkpoint(tmp_path / "other.pt", build(recipe, spec), spec, {})
    result = run("parity", checkpoint, tmp_path / "other.pt", "--clips", 2)
    assert result.exit_code == 1 and result.stdout.startswith("FAILED")


def test_a_report_never_takes_the_place_of_a_model_nor_of_the_verdict(onnx: Path, tmp_path: Path) -> None:
    model, made = tmp_path / "m.onnx", tmp_path / "made.onnx"
    shutil.copy(onnx, model)
    for call in (
        ("parity", model, onnx, "--report", model),
        ("parity", onnx, model, "--report", model),
        ("export", model, "--fp16", "-o", made, "--report", model),
        ("build", model, "--fp16", "-o", made, "--report", model),
    ):
        assert "is the input itself" in str(run(*call).exception), call
    for command in ("export", "build"):
        written = run(command, model, "--fp16", "-o", made, "--report", tmp_path / "x" / ".." / made.name)
        assert "is the model that is written" in str(written.exception)
    useless = run("export", model, "--report", tmp_path / "r.html", "--max-drop", 1, "-o", made)
    assert "--max-drop, --report without --fp16, --bf16 or --int8" in str(useless.exception)
    assert model.read_bytes() == onnx.read_bytes() and [model] == list(tmp_path.iterdir())
    ended = run("parity", onnx, model, "--clips", 1, "--report", "/proc/none/r.html")
    assert "PASSED" in ended.stdout and "cannot write" in str(ended.exception)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("parity", "m.onnx", "m.onnx", "--data", "v.avi", "--report", "v.avi"), "ends in .html"),
        (("parity", "m.onnx", "m.onnx", "--report", "data.json"), "ends in .html"),
        (("export", "m.onnx", "--fp16", "-o", "a.onnx", "--report", "v.avi"), "ends in .html"),
        (("build", "m.onnx", "--fp16", "-o", "a.plan", "--report", "v.avi"), "ends in .html"),
        (("export", "m.onnx", "--int8", "--calibration", "v.avi", "-o", "v.avi", "--overwrite"), "the input itself"),
        (("build", "m.onnx", "--int8", "--calibration", "v.avi", "-o", "v.avi", "--overwrite"), "the input itself"),
        (("build", "m.onnx", "-o", "a.plan", "--timing-cache", "m.onnx"), "the input itself"),
        (("explain", "m.onnx", "v.avi", "--frame", "0", "--out", "data.json"), "ends in .png"),
        (("train", "data.json", "--show-batch", "v.avi"), "ends in .png"),
    ],
)
def test_no_result_takes_the_place_of_what_it_is_made_from(
    call: tuple[str, ...], said: str, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(onnx, "m.onnx")
    for name in ("v.avi", "data.json"):
        Path(name).write_text("hours of work")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert said in str(run(*call).exception)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("text", ["score", "score=x", "score=-1", "height=3", "=1"])
def test_a_limit_that_is_none_is_refused(text: str, onnx: Path) -> None:
    result = run("parity", onnx, onnx, "--limit", text)
    assert result.exit_code == 1 and f"limit {text!r} is not understood" in str(result.exception)


@pytest.mark.parametrize("trust", [False, True])
def test_parity_trusts_plans_where_it_is_told_to_alone(
    trust: bool, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(reference: str, candidate: str, wanted: object, options: tuple[dict[str, Any], ...], *_: object) -> None:
        asked.extend(options)
        raise InputError("noted")

    monkeypatch.setattr(importlib.import_module("yowo_export.parity.prove"), "prove", note)  # not the function
    run("parity", onnx, onnx, *(["--trust"] * trust))
    assert [options.get("trust", False) for options in asked] == [trust, trust]


def test_parity_writes_its_page_and_bisects(checkpoint: Path, onnx: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    result = run("parity", checkpoint, onnx, "--clips", 1, "--bisect", "--memory", "64MiB", "--report", page, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and "Layer by layer" in page.read_text()
    assert len(found["bisection"]["layers"]) > 10 and "culprit" not in found["bisection"]


def test_bench_measures_several_models_in_one_run(checkpoint: Path, onnx: Path) -> None:
    result = run("bench", "--engine", checkpoint, "--engine", onnx, "--seconds", 0.2, "--json")
    figures = json.loads(result.stdout)
    assert [len(figures[part]) for part in ("models", "stages")] == [2, 6]
    first, second = figures["models"]
    assert first["calls"] == second["calls"] == len(first["seconds"]) >= 5
    assert first["p50_ms"] <= first["max_ms"]
    for model in (first, second):  # a percentile of fewer calls than it parts is no figure
        assert [model[f"p{p}_ms"] is None for p in (95, 99)] == [model["calls"] < 100 / (100 - p) for p in (95, 99)]
    assert first["gmac"] == second["gmac"] > 0  # counted in the network, and read from the file
    for model in (first, second):
        assert model["gmac_per_s"] == pytest.approx(model["gmac"] / (model["p50_ms"] / 1000), rel=1e-3)
        low, high = model["percent_of_peak"][1:]
        assert 0 < low <= model["percent_of_peak"][0] <= high and model["peak_gmac_per_s"] > 0
    assert first["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest() != second["sha256"]
    assert figures["machine"]["cpu"] and figures["peak_memory_bytes"] > 1e8 and figures["versus"] is None


def test_bench_compares_two_and_a_later_run_with_an_earlier(onnx: Path, video: Path, tmp_path: Path) -> None:
    records, picture = [tmp_path / "old.json", tmp_path / "new.json"], tmp_path / "out.png"
    arguments = ("bench", "--engine", onnx, "--versus", onnx, "--seconds", 0.5, "--no-peak", "--backend", "openvino")
    shown = run(*arguments, "--versus-backend", "onnxruntime", "--video", video, "--fps", 20, "--plot", picture).stdout
    assert re.match(
        r"tiny.onnx, openvino is [\d.]+ times as fast as tiny.onnx, onnxruntime, 95 % interval [\d.]+ to", shown
    )
    assert "20 frames/s offered" in shown and "decode video" in shown and "peak memory" in shown
    drawn = cv2.imread(str(picture))
    assert drawn is not None and len(np.unique(drawn)) > 20
    figures = json.loads(run(*arguments, "--no-stages", "--json").stdout)
    for path in records:
        path.write_text(json.dumps(figures))
    assert figures["versus"]["low"] <= figures["versus"]["ratio"] <= figures["versus"]["high"]
    assert run("bench", "compare", *records, "--fail-above", "5%").stdout.startswith("PASSED")
    figures["models"][0]["seconds"] = [100 * value for value in figures["models"][0]["seconds"]]
    records[1].write_text(json.dumps(figures))
    slower = run("bench", "compare", *records, "--fail-above", "5%", "--json")
    assert slower.exit_code == 1 and not json.loads(slower.stdout)["passed"]
    assert run("bench", "compare", *records[::-1]).exit_code == 0


def test_explain_draws_where_the_branches_look(checkpoint: Path, video: Path, tmp_path: Path) -> None:
    result = run("explain", checkpoint, video, "--frame", 5, "--out", tmp_path / "fig.png")
    assert result.exit_code == 0 and cv2.imread(str(tmp_path / "fig.png")) is not None
    refused = run("explain", checkpoint, video, "--frame", 500, "--out", tmp_path / "none.png")
    assert isinstance(refused.exception, YowoError) and not (tmp_path / "none.png").exists()


def test_features_are_kept_and_heard_by_evaluate_and_detect(
    checkpoint: Path, onnx: Path, data: Path, video: Path, tmp_path: Path
) -> None:
    videos = [each.path for each in open_dataset("synthetic", data).videos("test")]
    assert run("features", checkpoint, *videos, "-o", tmp_path).exit_code == 0
    arguments = ("synthetic", "--data", data, "--every", 8, "--json", "--features", tmp_path)
    assert json.loads(run("evaluate", checkpoint, *arguments).stdout)["frames"] > 0
    bank = tmp_path / f"{video.stem}.npz"
    shutil.copy(bank, tmp_path / f"{videos[1].stem}.npz")
    assert "made from another video" in str(run("evaluate", checkpoint, *arguments).exception)
    found = [
        run("detect", video, "--model", checkpoint, "--json", "-", "--conf", 0, *more).stdout.splitlines()
        for more in ((), ("--features", bank), ("--features", tmp_path))
    ]
    assert len(found[0]) == len(found[1]) and found[0] != found[1] == found[2]
    assert "needs a checkpoint" in str(run("evaluate", onnx, *arguments).exception)
    assert "same name" in str(run("features", checkpoint, video, video, "-o", tmp_path).exception)
    refused = run("features", "default", video, "-o", tmp_path / "none")
    assert "`yowo-deploy export default -o model.safetensors` makes one" in str(refused.exception)


def test_the_shipped_model_is_a_checkpoint_where_one_is_needed(video: Path, tmp_path: Path) -> None:
    made = tmp_path / "lite.safetensors"
    assert run("export", "default", "-o", made).exit_code == 0
    assert json.loads(run("inspect", made, "--json").stdout)["backbone_3d"] == "motion_lite0_p15"
    assert run("parity", made, "default", "--clips", 1).exit_code == 0
    assert run("export", "default", "--clip", 8, "-o", tmp_path / "8.onnx").exit_code == 0
    assert json.loads(run("inspect", tmp_path / "8.onnx", "--json").stdout)["spec"]["clip_length"] == 8
    assert run("explain", "default", video, "--frame", 5, "--out", tmp_path / "fig.png").exit_code == 0
    refused = run("export", "default", "--half-weights", "-o", tmp_path / "half.pt")
    assert "leave other options out" in str(refused.exception)


def test_a_compiled_model_is_kept_where_it_is_asked_for(onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    arguments = ("bench", "--engine", onnx, "--seconds", 0.1, "--json", "--no-peak", "--cache", folder)
    assert run(*arguments, "--backend", "openvino").exit_code == 0
    assert [path.suffix for path in folder.iterdir()] == [".blob"]
    assert "leave out the cache" in str(run(*arguments, "--backend", "onnxruntime").exception)


def test_half_weights_halve_the_file_and_single_ones_are_as_rounded(
    checkpoint: Path, onnx: Path, tmp_path: Path
) -> None:
    half, single = tmp_path / "half.onnx", tmp_path / "single.onnx"
    assert run("export", checkpoint, "--half-weights", "-o", half).exit_code == 0
    assert run("export", half, "-o", single).exit_code == 0
    sizes = [path.stat().st_size for path in (onnx, half, single)]
    assert sizes[1] < 0.65 * sizes[0] and sizes[2] == pytest.approx(sizes[0], rel=0.02)
    assert run("parity", half, single).exit_code == 0
    assert run("export", checkpoint, "-o", tmp_path / "own.onnx").exit_code == 0
    assert run("export", tmp_path / "own.onnx", "--clip", 3, "-o", tmp_path / "3.onnx").exit_code == 0
    assert json.loads(run("inspect", tmp_path / "3.onnx", "--json").stdout)["spec"]["clip_length"] == 3


def test_export_lowers_a_checkpoint_or_a_file_on_the_videos_it_is_given(
    checkpoint: Path, onnx: Path, video: Path, tmp_path: Path
) -> None:
    low, page = tmp_path / "low.onnx", tmp_path / "low.html"
    seen = ("--calibration", video, "--calibration-clips", 4)
    made = run("export", checkpoint, "--int8", *seen, "--report", page, "-o", low)
    assert made.exit_code == 0 and made.stdout == f"{low}\n" and "cfam.conv_bn_relu1" in page.read_text()
    told = json.loads(run("inspect", low, "--json").stdout)
    assert told["spec"]["precision"] == told["lowered: precision"] == "int8" and told["lowered: clips"]["count"] == 4
    assert run("parity", checkpoint, low, "--data", video).exit_code == 0
    assert run("export", onnx, "--fp16", *seen, "-o", tmp_path / "half.onnx").exit_code == 0
    assert run("parity", onnx, tmp_path / "half.onnx", "--data", video).exit_code == 0
    plan = tmp_path / "m.plan"
    if find_spec("tensorrt_rtx") is not None:
        assert run("build", onnx, "--int8", *seen, "--target", "tensorrt-rtx", "-o", plan).exit_code == 0
        assert json.loads(run("inspect", plan, "--json").stdout)["precision"] == "int8"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--int8"], "give some with --calibration"),
        (["--fp16", "--int8"], "not fp16 and int8"),
        (["--fp16", "--max-drop", "1"], "--max-drop is only for --int8"),
        (["--bf16", "--half-weights"], "leave it out"),
        (["--int8", "--calibration", "nowhere"], "not found: nowhere"),
    ],
)
def test_contradictions_about_precision_are_named(flags: list[str], said: str, onnx: Path, tmp_path: Path) -> None:
    refused = run("export", onnx, *flags, "-o", tmp_path / "no.onnx")
    assert isinstance(refused.exception, YowoError) and said in str(refused.exception)
    assert not list(tmp_path.iterdir())


def test_inspect_tells_what_a_file_is(checkpoint: Path, onnx: Path) -> None:
    of_checkpoint, of_onnx = (json.loads(run("inspect", path, "--json").stdout) for path in (checkpoint, onnx))
    assert of_checkpoint["spec"] == of_onnx["spec"]
    assert of_checkpoint["kind"] == "checkpoint" and of_checkpoint["backbone_3d"] == "tiny3d_s16"
    assert of_onnx["kind"] == "onnx" and of_onnx["operators"]["Attention"] == 1
    assert of_checkpoint["dtype"] == "float32" and "float32" in of_onnx["dtype"]
    assert of_checkpoint["weights_sha256"] == of_onnx["weights_sha256"]


def test_inspect_keeps_hashes_whole_on_a_narrow_terminal(onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.results, "width", 80)
    shown = run("inspect", onnx).stdout
    assert hashlib.sha256(onnx.read_bytes()).hexdigest() in shown
    assert "\n\nspec\n" in shown and "u000a" not in shown


def test_inspect_counts_the_same_parts_of_the_checkpoint_and_of_its_export(checkpoint: Path, onnx: Path) -> None:
    parts, exported = (json.loads(run("inspect", path, "--json").stdout)["parts"] for path in (checkpoint, onnx))
    assert parts == exported and parts["backbone_3d"]["parameters"] > 0
    assert parts["total"]["macs"] == sum(part["macs"] for name, part in parts.items() if name != "total")
    assert "G multiply-adds" in run("inspect", onnx).stdout


MANY_PARTS = json.dumps({str(number): {"macs": 1, "parameters": 1} for number in range(101)})


@pytest.mark.parametrize(
    "entry",
    [
        "[1]",
        "no JSON",
        '{"total": {"macs": "many"}}',
        '{"a": {"macs": 1e999, "parameters": 1}}',
        "[" * 200_000,
        MANY_PARTS,
    ],
)
def test_inspect_leaves_out_a_cost_that_is_none(onnx: Path, tmp_path: Path, entry: str) -> None:
    model = onnx_package.load(onnx)
    onnx_package.helper.set_model_props(
        model, {each.key: entry if each.key == COST_KEY else each.value for each in model.metadata_props}
    )
    onnx_package.save(model, tmp_path / "other.onnx")
    found = json.loads(run("inspect", tmp_path / "other.onnx", "--json").stdout)
    assert found["parts"] == {} and found["spec"]["clip_length"] == 8


def test_anchors_are_fitted_printed_and_plotted(data: Path, tmp_path: Path) -> None:
    plot = tmp_path / "anchors.png"
    result = run("anchors", "synthetic", "--data", data, "--count", 3, "--grid", 4, 4, "--plot", plot, "--json")
    found = json.loads(result.stdout)
    assert len(found["anchors"]) == 3 and 0.5 < found["mean_iou"]["fitted"] <= 1
    assert cv2.imread(str(plot)).std() > 5  # something is drawn


def test_detect_writes_the_video_and_one_line_a_frame(onnx: Path, video: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "out.webm", tmp_path / "out.jsonl"
    result = run("detect", video, "--model", onnx, "-o", out, "--json", lines, "--conf", 0.01)
    assert result.exit_code == 0, result.output
    frames = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(16))
    for detection in frames[10]["detections"]:
        x1, y1, x2, y2 = detection["xyxy"]
        assert 0 <= x1 <= x2 <= 160 and 0 <= y1 <= y2 <= 120 and detection["confidence"] > 0.01
    capture = cv2.VideoCapture(str(out))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.webm"]


def _text_named_mp4(folder: Path) -> Path:
    (folder / "text.mp4").write_text("#EXTM3U\nother.mp4\n")
    return folder / "text.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


BAD_VIDEOS: list[tuple[str, Callable[[Path], Path], str]] = [
    ("missing", lambda folder: folder / "none.mp4", "not found"),
    ("text", _text_named_mp4, "not a video"),
    ("empty", _empty, "is empty"),
    ("folder", lambda folder: folder, "holds no file to read"),
]


@pytest.mark.parametrize(("what", "make", "message"), BAD_VIDEOS, ids=[row[0] for row in BAD_VIDEOS])
def test_a_bad_video_is_one_line_and_nothing_is_written(
    onnx: Path, tmp_path: Path, what: str, make: Callable[[Path], Path], message: str
) -> None:
    bad = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    refused(
        "detect", bad, "--model", onnx, "-o", tmp_path / "out.webm", "--json", tmp_path / "o.jsonl", message=message
    )
    assert sorted(tmp_path.iterdir()) == before


def test_a_corrupted_video_is_refused_whole_or_taken_as_far_as_it_goes(
    data_dir: Path, onnx: Path, tmp_path: Path
) -> None:
    bad = data_dir / "samples" / "decord_corrupted.mp4"
    out, lines = tmp_path / "out.webm", tmp_path / "out.jsonl"
    refused("detect", bad, "--model", onnx, "-o", out, "--json", lines, message="breaks off")
    assert not list(tmp_path.iterdir())
    assert run("detect", bad, "--model", onnx, "--json", lines, "--allow-damaged").exit_code == 0
    assert len(lines.read_text().splitlines()) == 28


def refused(*arguments: object, message: str) -> None:
    """As the user sees it: exit code 1, one line on stderr that says so."""
    command = [sys.executable, "-m", "yowo_deploy", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "500"})
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 1, done.stderr
    assert len(errors) == 1 and message in errors[0] and "Traceback" not in done.stderr, done.stderr


def test_a_model_without_a_spec_names_the_command_that_writes_one(onnx: Path, video: Path, tmp_path: Path) -> None:
    import onnx as onnx_package

    model = onnx_package.load(str(onnx))
    del model.metadata_props[:]
    onnx_package.save(model, str(tmp_path / "bare.onnx"))
    refused("detect", video, "--model", tmp_path / "bare.onnx", "--json", "-", message="yowo-deploy export")


BAD_CALLS: list[tuple[str, Callable[[dict[str, Any]], list[object]], str]] = [
    ("no such model", lambda g: ["bench", "--engine", g["tmp"] / "none.onnx"], "not found"),
    ("no model to measure", lambda g: ["bench"], "expected one or more"),
    ("two and another", lambda g: ["bench", "--engine", "a", "--engine", "b", "--versus", "c"], "expected one"),
    ("no video there", lambda g: ["bench", "--engine", g["onnx"], "--video", g["tmp"] / "none.mp4"], "not found"),
    ("a plot that is none", lambda g: ["bench", "--engine", g["onnx"], "--plot", g["tmp"] / "a.pdf"], ".png"),
    ("text as a record", lambda g: ["bench", "compare", g["text"], g["text"]], "bench --json"),
    ("unwritable folder", lambda g: ["export", g["checkpoint"], "-o", "/proc/none/a.onnx"], "cannot write"),
    ("text as a checkpoint", lambda g: ["export", g["text"]], "cannot be read"),
    ("no data set there", lambda g: ["evaluate", g["onnx"], "jhmdb21", "--data", g["tmp"]], "JHMDB-GT"),
    (
        "mp4 without PyAV or another suffix",
        lambda g: ["detect", g["video"], "--model", g["onnx"], "-o", "a.gif"],
        ".webm",
    ),
    (
        "unknown recipe",
        lambda g: ["train", "synthetic", "--data", g["data"], "--recipe", "x", "-o", g["tmp"]],
        "yowo-lite",
    ),
]


@pytest.mark.parametrize(("what", "call", "message"), BAD_CALLS, ids=[row[0] for row in BAD_CALLS])
def test_a_bad_call_is_one_clear_error(
    data: Path,
    checkpoint: Path,
    onnx: Path,
    video: Path,
    tmp_path: Path,
    what: str,
    call: Callable[[dict[str, Any]], list[object]],
    message: str,
) -> None:
    text = tmp_path / "text.pth"
    text.write_text("hello")
    given = {"data": data, "checkpoint": checkpoint, "onnx": onnx, "video": video, "tmp": tmp_path, "text": text}
    result = run(*call(given))
    assert isinstance(result.exception, YowoError) and message in str(result.exception)
    assert [path for path in tmp_path.iterdir() if path != text] == []


def test_labels_of_another_data_set_are_not_scored(data: Path, onnx: Path, data_dir: Path) -> None:
    result = run("evaluate", onnx, "jhmdb21", "--data", data_dir / "jhmdb21")
    assert isinstance(result.exception, YowoError) and "classes" in str(result.exception)


def test_boxes_are_the_same_whatever_the_size_of_the_video(onnx: Path, video: Path, tmp_path: Path) -> None:
    """Relative to the frame: a video of exactly three times the size squashes to almost the same input."""
    large = tmp_path / "large.avi"
    capture = cv2.VideoCapture(str(video))
    writer = cv2.VideoWriter(str(large), cv2.VideoWriter.fourcc(*"MJPG"), 12, (384, 288))
    while (frame := capture.read()[1]) is not None:
        writer.write(cv2.resize(frame, (384, 288), interpolation=cv2.INTER_CUBIC))
    writer.release()
    boxes = []
    for path in (video, large):
        text = run("detect", path, "--model", onnx, "--json", "-", "--conf", 0.05, "--iou", 1.0).stdout
        frames = [json.loads(line)["detections"] for line in text.splitlines() if line.startswith("{")]
        boxes.append(np.array([d["xyxy"] for d in frames[12]]))
    assert len(boxes[0]) == len(boxes[1]) > 0
    distance = np.abs(boxes[1][:, None] - 3 * boxes[0][None]).max(axis=2)
    assert distance.min(axis=0).max() < 9  # two resizes and a second JPEG: a few pixels of the larger frame


def test_videos_that_are_not_there_are_counted_and_left_out(
    onnx: Path, data: Path, video: Path, tmp_path: Path
) -> None:
    names = ["a/here_1", "a/gone_1"]
    truth = {"labels": open_dataset("synthetic", data).labels, "train_videos": [[]], "test_videos": [names]}
    truth |= {"nframes": dict.fromkeys(names, 1), "gttubes": {name: {"0": [[[1, 5, 5, 40, 80]]]} for name in names}}
    (tmp_path / "JHMDB-GT.json.gz").write_bytes(gzip.compress(json.dumps(truth).encode()))
    (tmp_path / "videos" / "a").mkdir(parents=True)
    shutil.copy(video, tmp_path / "videos" / "a" / "here_1.avi")
    result = run("evaluate", onnx, "jhmdb21", "--data", tmp_path, "--json")
    assert "1 of 2 test videos are not in" in result.stderr
    found = json.loads(result.stdout)
    assert (found["videos"], found["videos_absent"], found["frames"]) == (1, 1, 1)
