"""Build the documentation site: `python -m docs.site [FOLDER]`, by default into build/site; `make docs` runs it.

The pages are the Markdown files of the project, which read well where they lie. Here they are put into one tree, links
between them follow, the references are made from the code, and mkdocs builds all of
it strictly. No plugins, so that another builder can take the same tree.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_origin

import click
import yaml

from yowo_deploy.cli import COMMANDS, EXAMPLES, cli, option_groups

ROOT = Path(__file__).parent.parent
# Title -> page: of the project, or "" for one that is made here.
NAVIGATION: dict[str, dict[str, str]] = {
    "Start": {"Overview": "README.md", "Install": "docs/install.md", "中文": "docs/zh.md"},
    "Tutorials": {
        "Run on video": "docs/detect.md",
        "Your own data": "docs/own-data.md",
        "Train": "docs/training.md",
        "Checkpoint to product": "docs/export.md",
        "Cameras": "docs/live.md",
        "Zones and alerts": "docs/alerts.md",
        "Serving": "docs/serving.md",
        "Archives": "docs/archives.md",
    },
    "Guides": {
        "Python": "docs/python.md",
        "C++ and C": "docs/cpp.md",
        "Streaming": "docs/streaming.md",
        "Coming from other tools": "docs/coming-from.md",
        "Untrusted files and streams": "docs/security.md",
        "Troubleshooting": "docs/troubleshooting.md",
    },
    "Reference": {
        "Command line": "",
        "Python API": "",
        "C and C++": "",
        "File formats": "",
        "Glossary": "docs/glossary.md",
        "Model card": "yowo_deploy/model_zoo/yowo-lite.md",
    },
    "Background": {
        "Architecture": "ARCHITECTURE.md",
        "Parity": "docs/parity.md",
        "Decisions": "docs/decisions.md",
        "Benchmarks": "benchmarks/RESULTS.md",
        "Security policy": "SECURITY.md",
    },
    "Project": {"Contributing": "CONTRIBUTING.md", "Release": "docs/release.md", "Changes": "CHANGELOG.md"},
}
API = {
    "yowo_deploy": (),  # of its `__all__`
    "yowo_deploy.detector": ("DetectorOptions",),
    "yowo_deploy.boxes": ("Tube",),
    "yowo_deploy.video.sources": ("Counts",),
    "yowo_deploy.sinks": (),
    "yowo_deploy.sinks.jsonl": ("Lines",),
    "yowo_deploy.sinks.mqtt": ("MqttBroker",),
    "yowo_deploy.sinks.webhook": ("Webhook",),
    "yowo_deploy.sinks.frigate": ("Frigate",),
    "yowo_deploy.sinks.outbox": ("Outbox",),
    "yowo_deploy.video.writer": ("VideoWriter",),
    "yowo_deploy.backends.batching": ("SharedBackend",),
    "yowo_deploy.preprocess.cuts": ("CutDetector",),
    "yowo_deploy.postprocess.linker": ("OnlineLinker",),
    "yowo_deploy.postprocess.zones": ("Zone", "Zones", "Presence"),
    "yowo_deploy.postprocess.rules": ("Rule", "Rules", "Times"),
    "yowo_deploy.postprocess.rule_files": ("read_zones", "read_rules", "parse_zone"),
    "yowo_deploy.postprocess.events": ("Events",),
    "yowo_deploy.archive": (),
    "yowo_deploy.datasets": (),
    "yowo_deploy.errors": (
        *("InputError", "SpecError", "ModelFileError", "VideoError", "DatasetError", "OutputError"),
        *("EngineError", "MissingExtraError", "ParityError"),
    ),
    "yowo_training.pipeline": ("train", "prepare"),
    "yowo_training.trainer": ("Run",),
    "yowo_training.run_folder": ("RunFolder",),
    "yowo_training.data.actors": ("Silhouettes",),
    "yowo_training.data.clip_sampler": ("FrameCache",),
    "yowo_export.pipeline": ("export", "build"),
    "yowo_export.precision.lower_precision": ("LowerPrecision",),
    "yowo_export.precision.convert": ("Wish",),
    "yowo_export.plan_builder": ("PlanOptions",),
    "yowo_export.parity.prove": ("prove", "Wanted"),
}
PLACES = {"README.md": "index.md", "SECURITY.md": "security-policy.md"}  # of pages that keep another name on the site
HEADERS = ("yowo.h", "detector.hpp", "boxes.hpp", "postprocess/zones.hpp", "spec.hpp", "errors.hpp")
SECTIONS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:")  # the first three list names
LONG = 88  # characters of a signature on one line
WHOLE = 36  # characters of code that fit a line at 390 pixels, within a list too
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#:\s]+)(#[^)]*)?\)")


def main() -> None:
    """See the module."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").resolve()
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder))
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", target]
        if subprocess.run([*map(str, command), "--config-file", f"{folder}/mkdocs.yml"], env=quiet).returncode:
            sys.exit("the site has faults, see above")
    print(f"{target}/index.html")


def write_tree(folder: Path) -> None:
    """The pages, the pictures they show, and the configuration."""
    places = dict(_places())
    for page, place in places.items():
        _write(folder / "docs" / place, with_whole_names(_with_links(page, places, folder / "docs")))
    for title, make in REFERENCES.items():
        _write(folder / "docs" / _reference(title), with_whole_names(make()))
    for schema in schemas():
        _write(folder / "docs" / "schemas" / schema.name, schema.read_text(encoding="utf-8"))
    shutil.copy(ROOT / "docs" / "site.css", folder / "docs")
    settings = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"))
    settings["nav"] = [{group: list(_entries(pages, places))} for group, pages in NAVIGATION.items()]
    _write(folder / "mkdocs.yml", yaml.safe_dump(settings, allow_unicode=True))


def command_line() -> str:
    """Every command with its options and examples."""
    lines = ["# Command line", "", "`yowo-deploy COMMAND --help` shows the same."]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        lines += _command(f"yowo-deploy {name}", command)
    return "\n".join(lines)


def python_api() -> str:
    """Every public name with its signature and docstring."""
    lines = ["# Python API", "", "Made from the docstrings, which are contracts; tests check them. The array types:"]
    arrays = inspect.getsource(importlib.import_module("yowo_deploy.arrays"))
    lines += ["", "```python", *re.findall(r"^\w+ = .*", arrays, flags=re.MULTILINE), "```"]
    for module_name, chosen in API.items():
        module = importlib.import_module(module_name)
        names = chosen or tuple(name for name in module.__all__ if not name.startswith("_"))
        lines += ["", f"## `{module_name}`"]
        for name in names:
            lines += _described(name, getattr(module, name))
    return "\n".join(lines)


def headers() -> str:
    """The headers that an application includes, whole: their comments are the reference."""
    lines = [
        "# C and C++",
        "",
        "The headers of the package, below `yowo/`; `python -m yowo_deploy --include` prints their folder.",
    ]
    for name in HEADERS:
        text = (ROOT / "yowo_deploy" / "include" / "yowo" / name).read_text(encoding="utf-8")
        lines += ["", f"## `yowo/{name}`", "", f"```{'c' if name.endswith('.h') else 'cpp'}", text.rstrip(), "```"]
    return "\n".join(lines)


def file_formats() -> str:
    """What is written and read, field by field, made from the JSON schemas."""
    lines = ["# File formats", "", "Made from the JSON schemas of the package, which the tests hold every file to."]
    for path in schemas():
        schema = json.loads(path.read_text(encoding="utf-8"))
        lines += ["", f"## {schema['title'].removeprefix('yowo-deploy ').capitalize()}", ""]
        lines += [_cell(schema["description"]), "", f"[`{path.name}`](../schemas/{path.name})", ""]
        lines += ["| field | type | |", "|---|---|---|", *_fields(schema, schema, "")]
    return "\n".join(lines)


def schemas() -> list[Path]:
    """The JSON schemas of the package."""
    return sorted((ROOT / "yowo_deploy").rglob("*.schema.json"))


def _fields(schema: dict[str, Any], root: dict[str, Any], above: str) -> Iterator[str]:
    """A row a field; those within it follow, `[]` for each of a list."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        while "$ref" in field:
            referred = root["$defs"][field["$ref"].rpartition("/")[2]]
            field = {**referred, **{key: value for key, value in field.items() if key != "$ref"}}
        kinds = field.get("type", "array" if "items" in field else "any")
        kind = " or ".join(kinds) if isinstance(kinds, list) else kinds
        values = field.get("enum", [field["const"]] if "const" in field else [])
        kind = ", ".join(map(json.dumps, values)) or kind
        text = field.get("description", "") + ("" if name in required else " May be absent.")
        yield f"| {_cell(above + name, code=True)} | {_cell(kind)} | {_cell(text)} |"
        yield from _fields(field, root, f"{above}{name}.")
        items = field.get("items", {})
        items = root["$defs"][items["$ref"].rpartition("/")[2]] if "$ref" in items else items
        yield from _fields(items, root, f"{above}{name}[].")


REFERENCES: dict[str, Callable[[], str]] = {
    "Command line": command_line,
    "Python API": python_api,
    "C and C++": headers,
    "File formats": file_formats,
}


def _reference(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '-').replace('+', 'p')}.md"


def _places() -> Iterator[tuple[str, str]]:
    """Of each page of the project, its place on the site."""
    for pages in NAVIGATION.values():
        for page in filter(None, pages.values()):
            yield page, PLACES.get(page, Path(page).name.lower())


def _entries(pages: dict[str, str], places: dict[str, str]) -> Iterator[dict[str, str]]:
    for title, page in pages.items():
        yield {title: places[page] if page else _reference(title)}


def _with_links(page: str, places: dict[str, str], folder: Path) -> str:
    """A page whose links lead to pages of the site; those to other files of the project become plain text."""

    def follow(found: re.Match[str]) -> str:
        shown, target, anchor = found[1], found[2], found[3] or ""
        path = os.path.relpath((ROOT / page).parent.joinpath(target).resolve(), ROOT)
        if path in places:
            return f"{shown}({places[path]}{anchor})"
        if path.endswith(".schema.json"):
            return f"{shown}(schemas/{Path(path).name})"
        if shown.startswith("!"):
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / "pictures" / Path(path).name)
            return f"{shown}(pictures/{Path(path).name})"
        return f"{shown[1:-1]} (`{path}`)"

    return LINK.sub(follow, (ROOT / page).read_text(encoding="utf-8"))


def with_whole_names(text: str) -> str:
    """A page whose short code with a hyphen has the class `whole` of site.css, outside blocks, headings and tables."""

    def mark(found: re.Match[str]) -> str:
        code, line = found[0], text[text.rfind("\n", 0, found.start()) + 1 :]
        is_name = "-" in code and "\n" not in code and len(code) <= WHOLE + 2
        return code if not is_name or line.startswith(("#", "|", "    ")) else f"{code}{{ .whole }}"

    # A block in fences comes first, and is left as it is; then code between two backticks.
    return re.sub(r"^ *```.*?^ *```$|`[^`]+`", mark, text, flags=re.DOTALL | re.MULTILINE)


def _command(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=name, show_default=True)  # as `cli` sets it for --help
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = ["", f"## `{name}`", "", f"```text\n{usage}\n```", "", _paragraphs(command.help or ""), ""]
    key = name.removeprefix("yowo-deploy ")
    lines += ["```bash", *EXAMPLES[key], "```", ""] if key in EXAMPLES else []
    groups = option_groups(key, command, context)
    groups["Options"] = [record for record in groups["Options"] if "--help" not in record[0]]
    for title, records in groups.items():
        lines += [f"**{title}**", ""] if records and len(groups) > 1 else []
        lines += [line for option, text in records for line in (f"`{option}`", "", f":   {_cell(text)}", "")]
    for each, inner in command.commands.items() if isinstance(command, click.Group) else ():
        lines += [line.replace("## ", "### ", 1) for line in _command(f"{name} {each}", inner)]
    return lines


def _described(name: str, found: object) -> list[str]:
    lines = [
        "",
        f"### `{name}`",
        "",
        "```python",
        _broken(_shown(name, found)),
        "```",
        "",
        *_docstring(inspect.getdoc(found) or ""),
    ]
    if inspect.isclass(found):
        for each, member in inspect.getmembers(found):
            is_own = any(each in vars(base) for base in found.__mro__ if base.__module__.startswith("yowo"))
            if each.startswith("_") or not is_own or not (callable(member) or isinstance(member, property)):
                continue
            text, _, rest = (inspect.getdoc(member) or "").partition("\n\n")
            shown = f".{each}{'' if isinstance(member, property) else _signature(member)}"
            lines += [
                "",
                f"`{shown}`" if len(shown) <= LONG else f"`.{each}`",
                "",
                f":   {' '.join(text.split())}" if text else "",
                "",
            ]
            if len(shown) > LONG:
                lines += [f"    {line}" for line in ["```python", *_broken(shown).splitlines(), "```", ""]]
            lines += [f"    {line}".rstrip() for line in _docstring(rest)]
    return lines


def _shown(name: str, found: object) -> str:
    """How it is called; of a protocol, a type or a value, what it is."""
    if get_origin(found) is not None:
        return f"{name} = {str(found).removeprefix('typing.')}"
    if getattr(found, "_is_protocol", False):
        return f"class {name}(Protocol)"
    return f"{name}{_signature(found)}" if callable(found) else name


class _Plain(str):
    """An annotation that is shown without quotes."""

    __repr__ = str.__str__


def _signature(found: object) -> str:
    try:
        signature = inspect.signature(found)  # type: ignore[arg-type]  # what is none raises
    except (TypeError, ValueError):
        return "(...)"
    plain = {name: each.replace(annotation=_plain(each.annotation)) for name, each in signature.parameters.items()}
    plain.pop("self", None)
    signature = signature.replace(
        parameters=list(plain.values()), return_annotation=_plain(signature.return_annotation)
    )
    text = re.sub(r"<[^<>]*(?:<\w+>[^<>]*)*>", "...", str(signature))  # defaults without a name: lambdas, factories
    text = re.sub(r"= (\w+)\(\w+=[^()]*(?:\([^()]*\)[^()]*)*\)", r"= \1(...)", text)  # whole values
    return re.sub(r"\byowo_\w+(?:\.\w+)*\.(\w+)", r"\1", text)


def _plain(annotation: object) -> object:
    return _Plain(annotation) if isinstance(annotation, str) else annotation


def _broken(shown: str) -> str:
    """A long signature with a line for each argument."""
    if len(shown) <= LONG or not (parts := re.fullmatch(r"(\.?\w+\()(.*)(\).*)", shown)):
        return shown
    depth, lines, line = 0, [], ""
    for letter in parts[2]:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            lines.append(f"    {line.strip()},")
            line = ""
        else:
            line += letter
    return "\n".join([parts[1], *lines, f"    {line.strip()},", parts[3]])


def _docstring(text: str) -> Iterator[str]:
    """Sections as lists, indented blocks as code."""
    in_section = of_names = False
    for line in text.splitlines():
        if line in SECTIONS:
            in_section, of_names = True, line in SECTIONS[:3]
            yield from ("", f"**{line[:-1]}**", "")
        elif of_names and re.match(r"    [\w*`][\w*`., ]*:", line):
            name, _, rest = line.strip().partition(":")
            yield f"- `{name}`:{rest}"
        elif in_section and line.startswith("    "):
            yield f"  {line.strip()}"
        else:
            in_section = in_section and not line.strip()
            yield line


def _paragraphs(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "")


def _cell(text: str, code: bool = False) -> str:
    text = " ".join(text.split())
    if code:
        return f"`{text}`"  # a pipe in it divides no cell, and a backslash before it would be shown
    return text.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
