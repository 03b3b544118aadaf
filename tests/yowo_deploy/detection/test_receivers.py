"""`detect` with receivers over the network: what they get, what fails alone, and that no secret is shown."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.waiting import NEVER_S, wait_until
from tests.yowo_deploy.sinks.receiver import Answer, Receiver
from yowo_deploy.cli import cli
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.receivers import Receivers
from yowo_deploy.detection.run import detect
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.postprocess.zones import Zones
from yowo_deploy.reporter import Reporter
from yowo_deploy.result import Result
from yowo_deploy.sinks import outbox
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.writer import VideoWriter

pytest.importorskip("openvino")
CANARY = "s3cr3t-canary"
SEEN = ("--conf", "0.02", "--on", "0.02", "--off", "0.01", "--min-frames", "1")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine takes its time to send what waits."""
    monkeypatch.setattr(outbox, "CLOSE_S", NEVER_S)


@pytest.fixture(scope="module")
def model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "yard 1.webm"
    with VideoWriter(path, 25, (64, 48)) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8):
            writer.write(frame)
    return path


class Errors(Reporter):
    """Keeps errors."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def error(self, text: str) -> None:
        self.said.append(text)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["detect", *map(str, arguments)])


def test_receivers_get_what_the_file_of_events_gets_and_no_folder_is_made(
    model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_SECRET", CANARY)
    options = ["--webhook-private", "--webhook-secret-env", "HOOK_SECRET", "--webhook-snapshot", *SEEN]
    with Receiver() as receiver:
        common = [video, "--model", model, "--webhook", receiver.url, *options]
        alone = run(*common)
        assert alone.exit_code == 0, alone.output
        assert os.listdir(tmp_path) == []
        first = [got.json for got in receiver.got]
        receiver.got.clear()
        both = run(*common, "--events", "e.jsonl", "--camera", "door")
        assert both.exit_code == 0, both.output
        lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
        sent = [got.json for got in receiver.got]
        assert len(sent) == len(lines) == len(first) > 2
        changed = {"id", "source", "time", "snapshot"}
        for line, message in zip(lines, sent, strict=True):
            assert {k: v for k, v in message.items() if k not in changed} == {
                k: v for k, v in line.items() if k not in changed
            }
            assert message["id"].endswith(line["id"]) and message["source"] == "door"
        assert {each["source"] for each in first} == {"yard_1"}
    assert CANARY not in alone.output + both.output


@pytest.mark.parametrize("name", ["rtsp://recorder/cam/realmonitor", "webcam 0"])
def test_each_source_has_the_camera_given_in_its_place(name: str, made_up: Callable[..., Result]) -> None:
    """Channels of a recorder differ in what is not shown, and a webcam is shown otherwise than it is given."""

    class Channel:
        counts = None

    Channel.name = name  # type: ignore[attr-defined]
    texts = ["rtsp://recorder/cam/realmonitor?channel=1", "rtsp://recorder/cam/realmonitor?channel=2"]
    with Receiver() as receiver:
        given = Receivers(webhook=receiver.url, webhook_private=True, camera=("hall", "yard"))
        with given.open(Reporter(), texts) as opened:
            for number in (1, 0):
                [(_, sink)] = opened.sinks(Channel(), lambda: Events(min_frames=1), lambda: Zones(()), number)  # type: ignore[arg-type]
                sink.write(made_up(0).frame, made_up(0, {0: [0.9, 0, 0]}))
        assert [got.json["source"] for got in receiver.got] == ["yard", "hall"]


def test_a_receiver_that_refuses_costs_itself_alone_and_is_told_in_two_lines(
    model: Path, video: Path, tmp_path: Path
) -> None:
    told = Errors()
    seen = Outputs(events=str(tmp_path / "e.jsonl"), on=0.02, off=0.01, min_frames=1)
    with Receiver(lambda *_: Answer(404)) as refuses, Receiver() as takes:
        hook = refuses.url.replace("//", f"//{CANARY}:{CANARY}@") + f"/{CANARY}?{CANARY}"
        given = Receivers(webhook=hook, webhook_private=True, frigate=takes.url)
        [summary] = detect(str(video), seen, model, receivers=given, confidence=0.02, reporter=told)
    lines = (tmp_path / "e.jsonl").read_text().splitlines()
    assert len(lines) == len(refuses.got) and not summary.failed
    assert f"webhook {refuses.url}: a message was refused: status 404" in told.said
    assert any(line == f"webhook: 0 messages sent, {len(lines)} lost ({len(lines)} refused)" for line in told.said)
    assert CANARY not in "".join(told.said) + repr(given) + repr(summary) + (tmp_path / "e.jsonl").read_text()


def test_one_secret_is_in_no_output(model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As password, as secret of signatures, in paths and queries of addresses: in all files, messages and lines."""
    pytest.importorskip("paho")
    from tests.yowo_deploy.sinks.broker import Broker, Subscriber, mosquitto

    mosquitto()
    monkeypatch.setenv("HOOK_SECRET", CANARY)
    monkeypatch.setenv("YOWO_MQTT_PASSWORD", CANARY)
    (rules := tmp_path / "rules.json").write_text('{"v": 1, "rules": [{"name": "any", "score": 0.02}]}')
    (users := tmp_path / "users").mkdir()
    (out := tmp_path / "out").mkdir()
    subprocess.run(["mosquitto_passwd", "-b", "-c", users / "file", "door", CANARY], check=True)
    written = {"-o": "o.webm", "--json": "j.jsonl", "--alerts": "a.jsonl", "--tubes": "t.json", "--events": "e.jsonl"}
    written |= {"--save-json": "data.json"}
    files = [part for option, name in written.items() for part in (option, out / name)]
    with (
        Broker(users, "allow_anonymous false", f"password_file {users / 'file'}") as broker,
        Subscriber(broker.port, user="door", password=CANARY) as heard,
        Receiver() as hook,
        Receiver(lambda *_: Answer(500, CANARY.encode()) if len(told.got) < 2 else Answer(200, b"{}")) as told,
    ):
        inside = f"{CANARY}?token={CANARY}"
        network = ["--mqtt", broker.url.replace("//", "//door@"), "--frigate", f"{told.url}/{CANARY}"]
        network += ["--webhook", f"{hook.url}/{inside}", "--webhook-private", "--webhook-secret-env", "HOOK_SECRET"]
        answer = run(video, "--model", model, *SEEN, "--rules", rules, *files, *network, "--metrics-port", "0")
        assert answer.exit_code == 0 and len(list(out.iterdir())) == len(written), answer.output
        failed = run(f"rtsp://door:{CANARY}@127.0.0.1:1/{inside}", "--model", model, "--mqtt", broker.url)
        assert failed.exit_code == 1
        said = [
            answer.output,
            failed.output,
            str(failed.exception),
            repr(heard.got),
            *(str(got.body) for got in hook.got),
        ]
        said += [str(got.body) for got in told.got]
    signatures = [got.headers["X-Yowo-Signature"].split("v1=")[1] for got in hook.got]
    assert len(signatures) > 2 and heard.values("yard/events") and len(told.got) > 2
    for text in ["".join(said).encode(), *(each.read_bytes() for each in out.iterdir())]:
        assert not any(secret.encode() in text for secret in (CANARY, *signatures))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--webhook", "https://a.example/", "--webhook-secret-env", "NOT_SET"],
            "the environment variable NOT_SET is not set",
        ),
        (["--webhook", f"http://127.0.0.1/{CANARY}"], "http://127.0.0.1 is a private address: allow it with"),
        (["--webhook", f"ftp://{CANARY}@host"], "the webhook is not an address"),
        (["--frigate", "frigate:5000"], "the address of Frigate is not an address"),
        (["--mqtt", f"http://u:{CANARY}@host"], "the broker's address is not understood"),
        (["--metrics-port", "door"], "metrics port 'door' is not understood"),
        (["--camera", "a", "--camera", "b"], "--camera is given 2 times for 1 sources"),
    ],
)
def test_what_cannot_work_is_one_line_before_the_first_frame(
    options: list[str], said: str, model: Path, video: Path
) -> None:
    pytest.importorskip("paho")
    answer = run(video, "--model", model, *options)
    assert answer.exit_code == 1 and said in str(answer.exception)
    assert CANARY not in str(answer.exception) + answer.output


def test_prometheus_finds_frames_drops_and_messages(made_up: Callable[..., Result]) -> None:
    pytest.importorskip("prometheus_client")

    class Camera:
        name = "rtsp://yard/stream"
        counts = type("Counts", (), {"dropped": {"overtaken": 7}})()

    with Receiver() as receiver:
        given = Receivers(webhook=receiver.url, webhook_private=True, metrics_port="0")
        with given.open(Reporter()) as opened:
            sinks = dict(opened.sinks(Camera(), lambda: Events(min_frames=1), lambda: Zones(())))  # type: ignore[arg-type]
            for number in range(3):
                for sink in sinks.values():
                    sink.write(made_up(number).frame, made_up(number, {0: [0.9, 0, 0]}))
            wait_until(lambda: bool(opened.counts()))
            port = opened.metrics_port
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {port}: .*choose another port"):
                Receivers(metrics_port=str(port)).open(Reporter())
    assert 'yowo_frames_total{origin="source"} 3.0' in text
    assert 'yowo_frames_dropped_total{reason="overtaken",source="yard_stream"} 7.0' in text
    assert 'yowo_messages_total{outcome="sent",receiver="webhook"}' in text


def test_help_lists_receivers_in_a_group_of_their_own() -> None:
    text = run("--help").output
    group = text.partition("\nReceivers:\n")[2].partition("\n\n")[0]
    options = ("--mqtt ", "--mqtt-ca", "--events-format", "--webhook ", "--webhook-secret-env", "--webhook-private")
    for option in (*options, "--webhook-snapshot", "--frigate", "--camera", "--metrics-port"):
        assert option in group
