"""Pages as text: one file, nothing from elsewhere, and names that can't leave their place."""

from __future__ import annotations

import json
import re

from sapool.report.page import Page
from sapool.report.payload import graph_data, shortened
from sapool.report.templates import cleaned, script
from tests.report.made import HOSTILE, past


def page(name: str = "") -> str:
    made = Page(f"title {name}")
    made.add_graph(past(name=name), f"graph {name}", name)  # type: ignore[arg-type]
    return made.html()


def test_hostile_names_add_no_element() -> None:
    def elements(text: str) -> list[str]:
        return re.findall(r"<(\w+)", re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL))

    hostile = page(HOSTILE)
    # The title of a part that isn't the page's own.
    assert elements(hostile) == elements(page("x"))
    assert "\x1b" not in hostile
    assert "\u202e" not in hostile


def test_nothing_on_a_page_is_elsewhere() -> None:
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page()))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_data_in_a_script_reads_back_and_cannot_end_it() -> None:
    data = {"a</script>": [HOSTILE, 1, None]}
    text = str(script(data))
    assert "<" not in text
    assert json.loads(text) == data


def test_what_cannot_be_seen_is_replaced_in_keys_too() -> None:
    assert cleaned({"a\x00": ("\u202eb", 1)}) == {"a�": ["�b", 1]}


def test_stages_that_a_pass_leaves_alone_are_stored_once() -> None:
    data = graph_data(past())  # type: ignore[arg-type]
    first, second, third = (step["blocks"] for step in data["steps"])
    assert second == third
    assert first[0] == second[0]  # the stem
    assert first[1] != second[1]
    assert [data["nodes"][number]["name"] for number, _, _ in data["blocks"][first[0]]["nodes"]] == ["x"]


def test_records_know_their_nodes() -> None:
    steps = graph_data(past())["steps"]  # type: ignore[arg-type]
    assert [record["node"] for record in steps[1]["rewrites"]] == ["pools_stage1", "pools_stage2"]
    assert [record["node"] for record in steps[2]["refusals"]] == ["x", "fc"]


def test_long_labels_keep_their_ends() -> None:
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"
