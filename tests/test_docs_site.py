"""The documentation: what its pages say is there is there, what they tell to type runs, and the
built site is looked at in a real browser."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from PIL import Image
from playwright.sync_api import Browser
from typer.testing import CliRunner

from genrobust.attacks import ATTACKS
from genrobust.cli.app import app
from genrobust.outcomes import flags
from genrobust.runner import curve
from genrobust.runner.executors.base import EXECUTORS
from genrobust.runner.smallest import SEARCHES
from genrobust.suites import Suite, builtin
from genrobust.training import judge, recipes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
#: Pages whose commands and Python run here, in order.
RUN = (
    *("index", "first-number", "your-model", "your-data", "reading", "attacks", "protocol"),
    *("defences", "scaling", "runs", "working", "versions", "families", "studies", "leaderboard"),
)
#: Pages that have tests of their own, and what these are.
RUN_ELSEWHERE = {
    "plugins": "test_plugin.py; its commands of judges below",
    "gallery": "test_the_figures_come_from_stored_evidence",
    "reproduced/index": "test_reproduce.py",
    "notebooks/how-robust-is-my-vae": "test_a_notebook_runs",
    "notebooks/why-did-this-digit-fall": "test_a_notebook_runs",
}
#: In what is typed: what takes hours, and what runs as well with less or with other data.
QUICKLY = {
    **{"--sources 4": "--sources 2", "--shard 3/16": "--shard 1/1", "steps=5000": "steps=3"},
    **{"re-attack": "re-attack --seed 0", "--out my-study": "--fast --out my-study"},
    "digits.toml --fast": "digits.toml --fast --out my-study",  # of which the next finds all done
    **{"--dataset mnist --data-root FOLDER": "--dataset digits", "--suite mnist": "--suite digits"},
    "/mnist/judge": "/digits/judge",
}
#: What a command needs that is on no page; tests of the hub and of publishing run those.
ELSEWHERE = ("hf://", "photos/", "publish ")


def pages() -> dict[str, str]:
    return {str(page.relative_to(DOCS)): page.read_text() for page in sorted(DOCS.rglob("*.md"))}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def commands(text: str) -> list[str]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.startswith("genrobust ")]


# ---- What pages say is there ----


def test_every_command_and_option_of_the_pages_exists() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for page, text in pages().items():
        for line in commands(text):
            verbs = line.split()[1:2]
            if verbs[0] in ("suite", "leaderboard"):
                verbs = line.split()[1:3]
            if tuple(verbs) not in seen:
                shown = CliRunner().invoke(app, [*verbs, "--help"])
                assert shown.exit_code == 0, (page, line)
                seen[tuple(verbs)] = shown.output
            for option in re.findall(r"(?<=\s)--[a-z-]+", line):
                assert option in seen[tuple(verbs)], (page, line)


def test_the_page_on_reports_explains_every_flag() -> None:
    """A flag's name is the string that :class:`Flag` is made with, wherever that is."""
    source = ast.parse(inspect.getsource(flags))
    raised = {
        keyword.value.value
        for call in ast.walk(source)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Flag"
        for keyword in call.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    }
    assert len(raised) >= 10
    page = (DOCS / "reading.md").read_text()
    assert {name for name in raised if f"| `{name}` |" not in page} == set()


def test_the_page_on_attacks_names_every_attack() -> None:
    page = (DOCS / "attacks.md").read_text()
    ours = [name for name in ATTACKS.names() if ATTACKS.get(name).__module__.startswith("genrob")]
    assert {name for name in ours if f"| `{name}` | {ATTACKS.get(name).paper} |" not in page} == (
        set()
    )
    assert {family for family in ATTACKS.families() if family[:-1] not in page} == set()


def test_the_pages_name_every_executor() -> None:
    page = (DOCS / "scaling.md").read_text() + (DOCS / "runs.md").read_text()
    shipped = ("serial", "threads", "processes", "ray")
    assert set(shipped) <= set(EXECUTORS.names())
    assert [name for name in shipped if f"`{name}`" not in page] == []


def test_the_pages_of_the_notebooks_show_the_notebooks() -> None:
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert len(found) == 2
    for notebook in found:
        cells = json.loads(notebook.read_text())["cells"]
        page = (DOCS / "notebooks" / f"{notebook.stem}.md").read_text()
        code = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
        assert [block.strip() for block in blocks(page, "python")] == code, "notebooks/render.py"
        for one in cells:
            if one["cell_type"] == "markdown":
                assert "".join(one["source"]) in page, "run notebooks/render.py"
            else:
                assert one["outputs"] == []


# ---- What pages tell to type ----


def cut(whole: Suite) -> Suite:
    """The suite with few samples, attacks and steps; nothing else differs."""
    few = {"steps": 4, "queries": 10}
    attacks = tuple(
        one.model_copy(update={"settings": {n: few.get(n, v) for n, v in one.settings.items()}})
        for one in whole.attacks[::3]
    )
    update = {"chunk_size": 4, "attacks": attacks, "eps": whole.eps[-2:], "resamples": 200}
    return whole.limited(5).model_copy(update=update)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief: None) -> Path:
    """The working directory, with what the pages' commands name."""
    searches = [
        one.model_copy(update={"settings": {**one.settings, "steps": 4}}) for one in SEARCHES
    ]
    monkeypatch.setattr(curve, "SEARCHES", tuple(searches))
    for name, whole in (("digits_v1", builtin.digits_v1()), ("digits_v2", builtin.digits_v2())):
        monkeypatch.setattr(builtin, name, partial(Suite.model_copy, cut(whole)))
    monkeypatch.setattr(recipes, "STEPS", {"digits": 3, "mnist": 3})
    monkeypatch.setattr(judge, "STEPS", {"digits": 100, "mnist": 3})
    monkeypatch.setattr(ATTACKS, "_registered", {**ATTACKS._registered})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("examples", "studies"):
        shutil.copytree(ROOT / name, tmp_path / name)
    own = "import genrobust\n\ndef build():\n    return genrobust.load_model('vae').module\n"
    for name in ("my.py", "my_model.py", "my_vae.py"):
        (tmp_path / name).write_text(own)
    own = "import genrobust\n\ndef function():\n    return genrobust.load_judge('digits', 'vgg')\n"
    (tmp_path / "my_file.py").write_text(own)
    for name, colour in (("blue", (0, 0, 200)), ("green", (0, 200, 0)), ("red", (200, 0, 0))):
        (tmp_path / "my_pictures" / name).mkdir(parents=True)
        for side in (60, 80):
            Image.new("RGB", (side, 70), colour).save(tmp_path / f"my_pictures/{name}/{side}.png")
    return tmp_path


def typed(line: str) -> None:
    """Type a line on a terminal, and answer what it asks."""
    for words, quicker in QUICKLY.items():
        line = line.replace(words, quicker)
    said = shlex.split(line)[1:]
    known = {*said, "--training-data"} if "--attack-on" in said else {*said}
    asked = [answer for option, answer in ANSWERS.items() if option not in known]
    asked += ["", "y"] if asked else ["y"]  # a note is asked for beside others; and whether
    result = CliRunner().invoke(app, said, input="\n".join([*asked, ""]))
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


#: What `submit` asks, by the option that says it before.
ANSWERS = {"--name": "My VAE", "--author": "Ada", "--licence": "MIT", "--training-data": "none"}


def written(block: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the page that a later line may import."""
    (folder / f"{name}.py").write_text(block)
    monkeypatch.setitem(sys.modules, name, None)  # so that it is put back
    del sys.modules[name]


def entered(text: str) -> None:
    """The entries that a page's commands name, measured on the suites as cut."""
    named = re.findall(r"leaderboard/entries/([\w-]+)/zoo-([\w-]+)", "\n".join(commands(text)))
    for suite, model in sorted(set(named)):
        typed(f"genrobust bench --model {model} --suite {suite} --evidence --out made")
        typed(f"genrobust submit made/{suite}/{model} --name 'zoo {model}' --yes")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_tells_to_type_runs(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files first, then commands, then Python, in the order of the page."""
    monkeypatch.setattr("genrobust.cli.submit.on_terminal", lambda: True)
    text = (DOCS / f"{name}.md").read_text()
    script = []
    for block in blocks(text, "python"):
        file = re.match(r"# (\w+)\.py\n", block)
        if file is None:
            script.append(block)
        else:
            written(block, file.group(1), folder, monkeypatch)
    for block in blocks(text, "toml"):
        few = block.replace("seeds = 3 ", "seeds = 1 ").replace("limit = 30", "limit = 3")
        (folder / "studies" / "digits.toml").write_text(few)
    entered(text)
    if "my-attack" in text:
        guide = (DOCS / "plugins.md").read_text()
        written(blocks(guide, "python")[0], "my_attack", folder, monkeypatch)
        import_module("my_attack")
    for line in commands(text):
        if not any(word in line for word in ELSEWHERE):
            typed(line)
    exec("\n".join(script), {"__name__": "page"})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
def test_what_the_page_on_plugins_tells_of_judges_runs(folder: Path) -> None:
    for line in commands((DOCS / "plugins.md").read_text()):
        if "judge" in line:
            typed(line)


def test_no_page_tells_to_type_what_no_test_runs() -> None:
    told = {
        str(Path(page).with_suffix(""))
        for page, text in pages().items()
        if blocks(text, "sh") or blocks(text, "python") or blocks(text, "toml")
    }
    assert told == {*RUN, *RUN_ELSEWHERE}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["how-robust-is-my-vae", "why-did-this-digit-fall"])
def test_a_notebook_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = run_path(str(ROOT / "notebooks" / "render.py"))["run"]
    content = run(ROOT / "notebooks" / f"{name}.ipynb")
    drawn = [
        one
        for cell in content.cells
        for one in cell.get("outputs", [])
        if "image/png" in one.get("data", {})
    ]
    assert len(drawn) >= 4


@pytest.mark.slow
def test_the_figures_come_from_stored_evidence() -> None:
    module = run_path(str(DOCS / "figures.py"))
    assert len(module["curves"]("digits").axes[0].lines) == len(module["MODELS"])
    assert all(module[name]().axes for name in ("examples", "rates", "pairs", "trade_off"))


# ---- The built site ----


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a warning, or not at all."""
    out = tmp_path_factory.mktemp("docs") / "site"
    found = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "-d", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return out


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Its address: the search is only there on a server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


BUILT = [str(Path(page).with_suffix(".html")) for page in pages()]


#: Of what a page repeats in one style, all but the first few; axe looks at each word anew.
REPEATED = """
const few = (all, most) => [...all].slice(most).forEach((one) => one.remove());
few(document.querySelectorAll(".doc-object.doc-function, .doc-object.doc-class"), 4);
few(document.querySelectorAll(".highlight"), 4);
document.querySelectorAll("table").forEach((one) => few(one.rows, 4));
"""
#: What axe finds, and the styles of words (colour, size, weight, and all that is behind them) whose
#: contrast it could tell. It takes long for that, so it looks at styles that it does not know yet.
LOOK = """
async ([known, scheme]) => {
  document.body.dataset.mdColorScheme = scheme;
  const times = Object.fromEntries(known.map((style) => [style, 3]));
  const fresh = new Map();
  for (const one of document.body.querySelectorAll("*")) {
    const words = [...one.childNodes].some((part) => part.nodeType === 3 && part.data.trim());
    if (!words || !one.checkVisibility()) continue;
    const { color, fontSize, fontWeight } = getComputedStyle(one);
    const behind = [];
    for (let at = one; at; at = at.parentElement) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(at);
      behind.push(backgroundColor, backgroundImage, opacity);
    }
    const seen = behind.filter((part) => !["rgba(0, 0, 0, 0)", "none", "1"].includes(part));
    const style = [color, fontSize, fontWeight, ...seen].join(" ");
    times[style] = (times[style] ?? 0) + 1;
    if (times[style] <= 3) fresh.set(one, style);
  }
  if (scheme === "slate" && !fresh.size) return [[], []];  // but for colours it is as in the light
  for (const one of fresh.keys()) one.dataset.fresh = "";
  axe.configure({ rules: [{ id: "color-contrast", selector: "[data-fresh]" }] });
  const found = await axe.run({
    ...(scheme === "slate" ? { runOnly: ["color-contrast"] } : {}),
    resultTypes: ["violations", "incomplete"],
    elementRef: true,
  });
  const untold = found.incomplete.filter((rule) => rule.id === "color-contrast");
  for (const node of untold.flatMap((rule) => rule.nodes)) fresh.delete(node.element);
  for (const one of document.querySelectorAll("[data-fresh]")) delete one.dataset.fresh;
  const summary = (rule) => rule.nodes.map((node) => `${node.html}: ${node.failureSummary}`);
  return [found.violations.flatMap(summary), [...fresh.values()]];
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "name"), [("light", "default"), ("dark", "slate")])
def test_a_page_is_as_dark_as_the_system(
    scheme: Literal["light", "dark"], name: str, served: str, browser: Browser
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(f"{served}/index.html")
    assert page.evaluate("document.body.dataset.mdColorScheme") == name
    page.close()


@pytest.mark.slow
def test_pages_are_clean_narrow_enough_and_load_nothing_from_elsewhere(
    served: str, browser: Browser
) -> None:
    """At a desk's width axe finds nothing, in the dark neither; nothing is wider than a phone."""
    page = browser.new_page(color_scheme="light", reduced_motion="reduce")
    asked: list[str] = []
    told: dict[str, set[str]] = {"default": set(), "slate": set()}
    page.on("request", lambda request: asked.append(request.url))
    for name in BUILT:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{served}/{name}")
        assert page.evaluate(
            "[...document.images].every((one) => one.complete && one.naturalWidth > 0)"
        ), name
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        page.set_viewport_size({"width": 1280, "height": 900})
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate(REPEATED)
        page.evaluate(AXE_SCRIPT)
        for scheme, before in told.items():
            wrong, styles = page.evaluate(LOOK, [[*before], scheme])
            assert wrong == [], (name, scheme)
            before.update(styles)
        page.route("**/search_index.json", lambda route: route.abort())  # once is enough
    page.close()
    assert all(len(styles) > 20 for styles in told.values())
    assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []
