"""The documentation site builds strictly, from every page and every command."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import click
import pytest

from docs.site import (
    API,
    NAVIGATION,
    command_line,
    file_formats,
    headers,
    python_api,
    schemas,
    with_whole_names,
    write_tree,
)
from tests.browser import Browser
from yowo_deploy.cli import COMMANDS, cli

pytest.importorskip("mkdocs")


def test_every_page_has_its_place(project_root: Path) -> None:
    listed = {page for pages in NAVIGATION.values() for page in pages.values()}
    assert {f"docs/{path.name}" for path in (project_root / "docs").glob("*.md")} <= listed


def test_no_page_replaces_another(project_root: Path, tmp_path: Path) -> None:
    write_tree(tmp_path)
    written = [path.read_text(encoding="utf-8").splitlines()[0] for path in (tmp_path / "docs").glob("*.md")]
    pages = [page for group in NAVIGATION.values() for page in group.values() if page]
    titles = {(project_root / page).read_text(encoding="utf-8").splitlines()[0] for page in pages}
    assert set(written) == titles and len(written) == len(pages)


def test_every_command_and_every_public_name_is_described() -> None:
    commands, names = command_line(), python_api()
    assert all(f"## `yowo-deploy {name}`" in commands for name in COMMANDS) and "--tube-scores" in commands
    assert all(f"## `{module}`" in names for module in API) and "### `Detector`" in names and "- `every`:" in names
    assert "    - `ModelFileError`: the network" in names  # what a method raises, in its own list


def test_the_command_line_is_what_help_shows() -> None:
    page = command_line()
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        for full, each in {name: command, **getattr(command, "commands", {})}.items():
            assert each is not None
            title = f"yowo-deploy {name}" + (f" {full}" if full != name else "")
            part = re.split(r"^##+ `", page.partition(f"# `{title}`\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
            for option in (each for each in each.params if isinstance(each, click.Option) and not each.hidden):
                shown = option.get_help_record(click.Context(each, show_default=True))
                assert shown is not None
                text = " ".join(shown[1].split()).replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;")
                assert f"`{shown[0]}`\n\n:   {text}\n" in part, (title, shown)


def test_signatures_show_values_and_no_addresses() -> None:
    names = python_api()
    assert not re.findall(r"\*args, \*\*kwargs|<function|<class|<built-in|<factory| at 0x|[(,] self\b", names)
    assert "Split = Literal['train', 'test']" in names and "resize: Literal['squash'] = 'squash'" in names
    assert not re.findall(r"`[^`]*\\\|[^`]*`", command_line() + file_formats())  # code shows what is before a pipe


def test_a_line_that_goes_on_is_no_item_of_a_list() -> None:
    assert not re.findall(r"^ *- `[^`]* (?!and )[^`,]*`:", python_api().replace(", ", ","), flags=re.MULTILINE)


def test_the_classes_that_docstrings_refer_to_are_described() -> None:
    names = python_api()
    described = set(re.findall(r"^### `(\w+)`", names, flags=re.MULTILINE))
    assert set(re.findall(r"see `([A-Z][a-z]\w+)`", names)) <= described


def test_names_with_a_hyphen_are_kept_whole_where_they_fit(tmp_path: Path) -> None:
    block = "```bash\na `b-c`\n```"
    text = (
        f"# `a-b`\n\n`--every 2`, `a` and `{'a-' * 20}`; `in\ntwo-lines` (`c-d`)\n\n{block}\n\n| `e-f` |\n\n    `g-h`\n"
    )
    expected = text.replace("`--every 2`", "`--every 2`{ .whole }").replace("`c-d`", "`c-d`{ .whole }")
    assert with_whole_names(text) == expected
    write_tree(tmp_path)
    for page in (tmp_path / "docs").rglob("*.md"):  # an odd backtick would mark what is between two pieces of code
        marked = re.findall(r"(.)`([^`]*)`\{ \.whole \}", page.read_text(encoding="utf-8"))
        assert not [code for before, code in marked if before.isalnum() or code != code.strip()], page


def test_every_format_and_the_headers_are_described() -> None:
    formats, cpp = file_formats(), headers()
    assert len(schemas()) >= 7 and all(f"schemas/{path.name}" in formats for path in schemas())
    assert "| `tubes[].actions[].label` | string |" in formats  # found through lists and references
    assert "`videos[].recording`" in formats and "May be absent." in formats
    assert "yowo_default_options" in cpp and "class Detector" in cpp


@pytest.fixture(scope="module")
def site(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "docs.site", str(folder)]
    made = subprocess.run(command, cwd=project_root, capture_output=True, text=True)
    assert made.returncode == 0 and "WARNING" not in made.stderr, made.stdout + made.stderr
    return folder


def test_it_builds_without_a_warning(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("index.html")]
    assert '<code class="whole">--tune</code>' in "".join(pages) and not any("{ .whole }" in page for page in pages)
    assert "pictures/detect.webp" in front and (site / "pictures" / "detect.webp").is_file()
    assert (site / "schemas" / "events.schema.json").is_file()


# Of the page, once what slides in or out with the size of the window has done so.
SETTLED_WIDTH = """new Promise(requestAnimationFrame)
    .then(() => Promise.allSettled(document.getAnimations().map(each => each.finished)))
    .then(() => document.documentElement.scrollWidth)"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and logs nothing."""

    def log_message(self, *_: object) -> None: ...


@pytest.mark.slow
@pytest.mark.browser
def test_no_page_is_wider_than_its_window_or_has_an_error(site: Path, browser: Browser) -> None:
    """On a phone and on a desktop."""
    pages = sorted(str(path.parent.relative_to(site)) for path in site.rglob("index.html"))
    assert len(pages) > 25
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port, found = server.server_address[1], []
        for page in pages:
            for width in (390, 1440):
                if width == 390:
                    browser.open(port, width, path=f"{page}/")
                else:
                    browser.resize(width)
                wide = browser.get(SETTLED_WIDTH)
                found += [f"{page}: {wide} pixels of {width}"] if wide > width else []
            found += [f"{page}: {line}" for line in browser.said(port)]
        for scheme in ("light", "dark"):
            browser.open(port, color_scheme=scheme)
            dark = browser.get("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 100")
            assert dark == (scheme == "dark")
        server.shutdown()
    assert found == []
