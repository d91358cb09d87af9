"""`.pt`: weights and plan, for `sapool.load`."""

from __future__ import annotations

from pathlib import Path

from sapool.catalogue.formats import register_format
from sapool.model import CompiledModel
from sapool.model_file import save


@register_format("pt", suffixes=(".pt", ".pth"), summary="weights and architecture", weights=True, plain=True, rank=0)
def write_model(model: CompiledModel, path: str | Path) -> None:
    """Writes a model as `sapool.save` does."""
    save(model, path)
