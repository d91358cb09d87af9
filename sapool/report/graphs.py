"""Files of a network's graph alone: a page, a picture, and what Model Explorer opens."""

from __future__ import annotations

from pathlib import Path

from sapool.inspection.history import History, history
from sapool.model import CompiledModel
from sapool.report.suffixes import check_suffix
from sapool.weights.atomic import write_text


def write_graph(model: CompiledModel, path: str) -> tuple[Path, ...]:
    """Writes a model's graph as its suffix says; returns the files.

    Raises:
        InputError: the suffix says nothing, or the file can't be written.
    """
    check_suffix(path)
    past, text = history(model), model.plan.architecture
    about = f"{model.plan.backbone}, for images of {model.plan.options.size_text}; {len(past.after.nodes)} nodes"
    if path.endswith(".json"):
        return _write_for_model_explorer(past, Path(path))
    if path.endswith(".svg"):
        from sapool.report.svg import picture  # noqa: PLC0415 - Jinja2, of an extra

        write_text(path, picture(past, text))
        return (Path(path),)
    from sapool.report.page import Page  # noqa: PLC0415 - Jinja2, of an extra

    page = Page(text)
    page.add_graph(past, text, about)
    write_text(path, page.html())
    return (Path(path),)


def _write_for_model_explorer(past: History, path: Path) -> tuple[Path, ...]:
    from sapool.report.model_explorer import graphs, overlay  # noqa: PLC0415 - what isn't asked for isn't loaded

    beside = path.with_name(f"{path.name.removesuffix('.json')}.node-data.json")
    write_text(path, graphs(past))
    write_text(beside, overlay(past))
    return path, beside
