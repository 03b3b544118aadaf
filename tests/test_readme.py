"""What the README shows works: its Python runs, its commands exist with the options it uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import yowo_deploy
from yowo_deploy.cli import COMMANDS, EXAMPLES, GROUPS, cli
from yowo_deploy.errors import InputError
from yowo_deploy.video.writer import VideoWriter

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
COMMAND_LINES = re.findall(r"^ *(?:- run: )?(yowo-deploy .*)$", "\n".join(PAGES), flags=re.MULTILINE)


def blocks(language: str) -> list[str]:
    """Of the front page and of docs/python.md, whose first one is the front page's."""
    pages = (README, (ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    found = [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)]
    return list(dict.fromkeys(found))


def test_the_front_page_is_short() -> None:
    assert len(README.split()) <= 1000


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def parse(line: str) -> None:
    """Understand a command line with all its values, as the command would, and run nothing."""
    command: click.Command = cli
    context, arguments = None, shlex.split(line, comments=True)
    while True:
        name, *arguments = arguments
        context = command.make_context(name, arguments, parent=context)
        arguments = [*context._protected_args, *context.args]
        if not isinstance(command, click.Group) or not arguments:
            return
        _, found, rest = command.resolve_command(context, arguments)
        assert found is not None
        command, arguments = found, [arguments[0], *rest]


@pytest.mark.parametrize("line", [*COMMAND_LINES, *(line for lines in EXAMPLES.values() for line in lines)])
def test_a_command_line_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    parse(line)
    assert capsys.readouterr().err == ""  # nor does a page show a former name


@pytest.mark.parametrize("name", GROUPS)
def test_help_names_every_option_once_and_gives_three_examples(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    groups = [option for options in GROUPS[name].values() for option in options.split()]
    assert set(groups) <= {each.name for each in command.params} and len(groups) == len(set(groups))
    text = CliRunner().invoke(cli, [name, "--help"]).output
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    for option in options:
        longest = max(option.opts, key=len)
        assert len(re.findall(rf"^  (?:-\w, )?{longest}\b(?!-)", text, flags=re.MULTILINE)) == 1, longest
    assert all(title in text for title in GROUPS[name]) and text.count(f"    yowo-deploy {name} ") == 3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_and_groups_where_options_are_many(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    assert (name in GROUPS) == (len(options) > 8)
    text = CliRunner().invoke(cli, [name, "--help"]).output
    assert "Examples:" in text and "<=None" not in text
    for sub in command.commands if isinstance(command, click.Group) else ():
        assert sub in text and "<=None" not in CliRunner().invoke(cli, [name, sub, "--help"]).output


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole_at_the_width_of_a_terminal(name: str, width: int) -> None:
    command = cli.get_command(click.Context(cli), name)
    inner = command.commands if isinstance(command, click.Group) else {}
    for arguments in ([name], *([name, sub] for sub in inner)):
        text = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=width).output
        lines = text.replace("Usage: cli", "Usage: yowo-deploy").splitlines()
        assert lines and max(map(len, lines)) <= width
        assert not [line for line in lines if re.search(r"\w-$|[^A-Z\W]\.\.\.$", line)]  # cut, or broken in a name
        assert "\u2011" not in text


@pytest.mark.parametrize(
    "line",
    [
        "yowo-deploy export ckpt.pth --target nonsense",
        "yowo-deploy export ckpt.pth --clipp 8",
        "yowo-deploy export",
        "yowo-deploy build yowo.onnx --batch 1:8",
        "yowo-deploy build yowo.onnx --workspace much",
        "yowo-deploy parity a b --limit height=3",
        "yowo-deploy bench compare old.json new.json --fail-above little",
        "yowo-deploy detect a.mp4 --every 0",
        "yowo-deploy data import annotated --test-share 7",
        "yowo-deploy trian data.json",
    ],
)
def test_a_command_line_with_a_mistake_is_not(line: str) -> None:
    with pytest.raises((click.UsageError, InputError)):
        parse(line)


def test_the_pages_show_many_command_lines() -> None:
    assert len(COMMAND_LINES) > 40


def test_every_command_but_the_demo_is_shown() -> None:
    assert set(COMMANDS) - {"demo"} <= set(re.findall(r"yowo-deploy (\w+)", "\n".join(PAGES)))


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    opened = []

    class Fake:
        """Answers with one sure detection in every frame."""

        name, parallel, batch = "fake", 1, (1, None)
        spec = yowo_deploy.ModelSpec(labels=("run",), anchors=((1.0, 1.0),), clip_length=2, input_size=(32, 32))

        def infer(self, clips: np.ndarray) -> np.ndarray:
            return np.full((len(clips), 6, 1, 1), 5, np.float32)

        def close(self) -> None: ...

    def open_model(path: str, *_: object, **__: object) -> Fake:
        opened.append(path)
        return Fake()

    monkeypatch.setattr("yowo_deploy.detector.open_model", open_model)
    frames = [np.zeros((48, 64, 3), np.uint8)] * 3
    first, second, third = blocks("python")
    exec(compile(first, "README.md", "exec"), {"frames": frames})
    assert opened == ["yowo.onnx"]
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [[str(i), "run"] for i in range(3)]
    monkeypatch.chdir(tmp_path)
    exec(compile(second, "README.md", "exec"), {"frames": frames})
    assert capsys.readouterr().out.splitlines() == ["there: 0 run 0 2"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    with VideoWriter(tmp_path / "video.webm", 25.0, (64, 48)) as writer:
        for frame in frames:
            writer.write(frame)
    (tmp_path / "video.webm").rename(tmp_path / "video.mp4")  # read by what it holds
    monkeypatch.setattr("yowo_deploy.detection.settings.open_model", open_model)
    exec(compile(third, "README.md", "exec"), {})
    assert capsys.readouterr().out == "video.mp4 3 3\n"
    assert (tmp_path / "found.jsonl").exists() and (tmp_path / "tubes.json").exists()
