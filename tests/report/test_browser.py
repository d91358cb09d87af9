"""Pages in a real browser: nothing is asked of a server; what is hovered, folded and moved does what it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sapool.inspection.run import RunView
from sapool.report.page import Page
from sapool.study.table import Difference, Row, StudyTable
from tests.commands import sapoolc
from tests.report.made import HOSTILE, past

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("bokeh")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium")]
PATIENCE = 120_000
"""Milliseconds that a loaded machine may take."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a network, with its memory."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    sapoolc("report", "resnet18-lip-1222", "--image-size", "64", "-o", file)
    return file


class Opened:
    """A page that was opened, and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(PATIENCE)
        self.page, self.wrong = context.new_page(), []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "request", lambda r: self.wrong.append(r.url) if not r.url.startswith(("file:", "data:")) else None
        )
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("section.network[data-drawn]")

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def plots(self) -> None:
        """Waits until the arena is drawn."""
        self.page.locator(".arena .plot").first.scroll_into_view_if_needed()
        self.page.wait_for_selector(".plot[data-drawn]")
        self.page.wait_for_function("document.querySelector('.plot').sapoolDocument?.is_idle")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_goes_wrong_or_out_and_nothing_is_wider_than_the_page(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report, width, scheme)
    opened.plots()
    assert not opened.wrong
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_stage_folds_in_both_graphs_and_unfolds(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    inside = ".node[data-name^=layer1_]"
    before = opened.count(inside)
    assert before
    opened.page.locator("svg.after .title[data-stage=stage1]").click()
    assert opened.count(inside) == 0
    assert opened.count(".frame.folded") == 2
    opened.page.locator("svg.before .title[data-stage=stage1]").focus()
    opened.page.keyboard.press("Enter")
    assert opened.count(inside) == before
    assert not opened.wrong


def test_the_slider_goes_through_the_passes(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    slider = opened.page.locator(".step")
    pools = "svg.after .node[data-name^=pools_]"
    assert opened.count(pools) == 3
    slider.fill("0")
    assert opened.count(pools) == 0
    assert opened.page.locator("output").text_content() == "nothing"
    slider.focus()
    opened.page.keyboard.press("End")
    assert opened.count(pools) == 3
    assert opened.page.locator("output").text_content() == "clean_up"


def test_a_node_lights_its_buffers_and_a_buffer_its_node(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    opened.plots()
    node = opened.page.locator("svg.after .node[data-name=pools_stage2]")
    opened.page.evaluate("graphs[0].show('pools_stage2')")
    node.hover()
    lit = opened.page.evaluate("graphs[0].memory.source().selected.indices")
    names = opened.page.evaluate("graphs[0].memory.source().data.nodes")
    assert lit
    assert all("pools_stage2" in names[at] for at in lit)
    opened.page.mouse.move(2, 2)
    opened.page.wait_for_function("graphs[0].memory.source().selected.indices.length === 0")
    canvas = opened.page.locator(".plot").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for part in (0.12, 0.16, 0.2, 0.3, 0.4):
        opened.page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] - 60)
        opened.page.wait_for_timeout(150)
        if opened.count(".node.lit"):
            break
    assert opened.count("svg.after .node.lit")
    assert not opened.wrong


def test_what_was_left_alone_says_why_on_a_click(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    opened.page.evaluate("graphs[0].show('layer1_0_conv1')")
    opened.page.locator("svg.after .node[data-name=layer1_0_conv1]").click()
    said = opened.page.locator(".said").text_content()
    assert "layer1.0.conv1" in said
    assert "left alone" in said
    assert "a stride of 1 without pooling" in said


def test_what_is_folded_in_lights_where_it_is_done_streamed_too(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    opened.plots()
    opened.page.locator(".memory button").nth(1).click()
    opened.page.locator(".arena .plot").nth(1).scroll_into_view_if_needed()
    opened.page.wait_for_function("document.querySelectorAll('.arena .plot')[1].dataset.drawn")
    opened.page.evaluate("graphs[0].choose('layer3_0_bn1')")
    lit = opened.page.evaluate("graphs[0].memory.source().selected.indices")
    names = opened.page.evaluate("graphs[0].memory.source().data.nodes")
    assert lit
    assert all("layer3_0_conv1" in names[at] for at in lit)
    assert "buffers of layer3_0_conv1, in which it is done" in opened.page.locator(".said").text_content()
    assert not opened.wrong


def test_a_key_goes_to_the_next_node_and_another_zooms(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    opened.page.locator("svg.after").focus()
    scale = opened.page.evaluate("graphs[0].view.k")
    opened.page.keyboard.press("+")
    assert opened.page.evaluate("graphs[0].view.k") > scale
    opened.page.keyboard.press("n")
    opened.page.keyboard.press("n")
    chosen = opened.page.evaluate("graphs[0].chosen")
    assert chosen == opened.page.evaluate("[...graphs[0].states(graphs[0].step).keys()][1]")


def test_hostile_names_are_only_text(browser: Any, tmp_path: Path) -> None:
    page = Page(HOSTILE)
    page.add_graph(past(name=HOSTILE), HOSTILE, HOSTILE)  # type: ignore[arg-type]
    page.add_table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, "2"], ["x", "10"]])
    file = tmp_path / "hostile.html"
    file.write_text(page.html(), encoding="utf-8")
    opened = Opened(browser, file)
    opened.page.on("dialog", lambda dialog: opened.wrong.append("a dialog"))
    opened.page.evaluate("graphs[0].show('fc')")
    opened.page.locator("svg.after .node[data-name=fc]").click()
    assert "<img" in opened.page.locator(".said").text_content()
    assert opened.count("img") == 0
    assert not opened.wrong


def test_runs_and_studies_are_drawn(browser: Any, tmp_path: Path) -> None:
    costs = {"parameters": 10_000, "macs": 2_000_000, "arena_bytes": 40_000}
    gap = Difference(0.1, 0.05, 0.15, 3)
    rows = (
        Row({"pool": "lip"}, 3, 0.9, 0.01, costs, dict.fromkeys(costs, True), None),
        Row({"pool": HOSTILE}, 3, 0.8, 0.02, {**costs, "macs": 1_000_000}, {"macs": True}, gap),
        Row({"pool": "none"}, 0, None, None, {}, {}, None),
    )
    run = RunView(
        name=HOSTILE,
        architecture="resnet18-lip-1222",
        data="digits",
        recipe=f'title = "{HOSTILE}"',
        summary=(("test accuracy", "0.9"),),
        curves={"loss": {"train loss": ((1.0, 2.0), (2.0, 1.0)), HOSTILE: ((1.0, 3.0),)}},
        classes=("a", "a", HOSTILE),
        confusion=((3, 0, 1), (0, 4, 0), (0, 0, 0)),
        columns=("class", "accuracy"),
        per_class=(("a", "0.75"), (HOSTILE, "")),
        notes=(HOSTILE,),
    )
    page = Page("runs")
    page.add_graph(past(), "graph", "")  # type: ignore[arg-type]
    page.add_study(StudyTable("study", "test_accuracy", ("pool",), (), rows))
    page.add_run(run)
    file = tmp_path / "runs.html"
    file.write_text(page.html(), encoding="utf-8")
    opened = Opened(browser, file)
    plots = opened.page.locator(".plot")
    for at in range(plots.count()):
        plots.nth(at).scroll_into_view_if_needed()
        opened.page.wait_for_function("at => document.querySelectorAll('.plot')[at].dataset.drawn", arg=at)
    assert plots.count() == 5
    assert opened.count("img") == 0
    assert "\\toprule" in opened.page.locator("section.overview pre").first.text_content()
    assert not opened.wrong


def test_a_table_sorts_by_number(browser: Any, tmp_path: Path) -> None:
    page = Page("sorted")
    page.add_graph(past(), "graph", "")  # type: ignore[arg-type]
    page.add_table("table", ["name", "value"], [["a", "1,000"], ["b", "9"], ["c", "80"]])
    file = tmp_path / "sorted.html"
    file.write_text(page.html(), encoding="utf-8")
    opened = Opened(browser, file)
    opened.page.get_by_role("button", name="value").click()
    cells = "table.sortable tbody td:first-child"
    assert opened.page.locator(cells).all_text_contents() == ["b", "c", "a"]
    opened.page.get_by_role("button", name="value").click()
    assert opened.page.locator(cells).all_text_contents() == ["a", "c", "b"]


def test_hundreds_of_nodes_are_painted_soon(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.html"
    sapoolc("inspect", "densenet201-lip-2222", "-o", file)
    opened = Opened(browser, file)
    paints = "performance.getEntriesByType('paint').map(paint => paint.startTime)"
    assert max(opened.page.evaluate(paints)) < 2000
    opened.page.locator(".unfold").click()
    assert opened.count("svg.after .node") > 600
    assert not opened.wrong
