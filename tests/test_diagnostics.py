"""Each finding fires where it should, says where and what to do, and has its section in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sapool
from sapool.catalogue.diagnostics import CODES
from sapool.diagnostics import diagnose, unacknowledged


def _findings(text: str, size: int = 224) -> dict[tuple[str, str], str]:
    with torch.device("meta"):
        model = sapool.compile(text, image_size=size)
    return {(finding.code, finding.site): finding.message for finding in diagnose(model)}


def test_a_plain_network_has_none() -> None:
    assert _findings("resnet18-skip-1222") == {}
    assert _findings("resnet18-lip-1222", 256) == {}


def test_cancelled_attention_names_the_spelling_that_avoids_it() -> None:
    found = _findings("prepool-nlp_reduced-4-resnet18-nlp_reduced-2222", 256)
    cancelled = {site: message for (code, site), message in found.items() if code == "cancelled-attention"}
    assert set(cancelled) == {"prepool", "stage1", "stage2"}
    assert "prepool-nlp_nowin_reduced-4-resnet18-nlp_reduced-2222" in cancelled["prepool"]
    assert "prepool-nlp_reduced-4-resnet18-nlp_nowin_reduced-2222" in cancelled["stage1"]
    better = _findings("prepool-nlp_nowin_reduced-4-resnet18-nlp_nowin_reduced-2222", 256)
    assert not any(code == "cancelled-attention" for code, _ in better)


def test_cancelled_attention_really_gets_no_gradient() -> None:
    torch.manual_seed(0)
    model = sapool.compile("resnet18-nlp_reduced-1222", image_size=64, num_classes=10)
    assert [f.site for f in diagnose(model) if f.code == "cancelled-attention"] == ["stage2"]
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    norms = {
        stage: float(model.get_parameter(f"pools.{stage}.attention.in_proj_weight").grad.norm())  # type: ignore[union-attr]
        for stage in ("stage2", "stage3")
    }
    assert norms["stage2"] < 1e-5 * norms["stage3"]


def test_one_token() -> None:
    found = _findings("resnet18-nlp_nowin_reduced1118-1222", 128)
    assert [site for code, site in found if code == "one-token"] == ["stage4"]


def test_odd_embeddings_are_those_that_were_asked_for() -> None:
    found = _findings("prepool-nlp_nowin_reduced-4-resnet18-nlp_headfix3_nowin_reduced-1222", 64)
    assert [site for code, site in found if code == "odd-embedding"] == ["stage2", "stage3", "stage4"]
    assert "128 channels, which 3 heads don't divide, so its attention works on 129" in found["odd-embedding", "stage2"]
    assert "use headfix2" in found["odd-embedding", "stage2"]
    assert not any(code == "odd-embedding" for code, _ in _findings("resnet18-nlp_headfix2_nowin-1222", 64))


def test_lost_rows() -> None:
    found = _findings("resnet18-maxp-1222", 90)
    assert "drops 1 of 11 rows and 1 of 11 columns" in found["lost-rows", "stage3"]
    assert not any(code == "lost-rows" for code, _ in _findings("resnet18-maxp-1222", 96))


def test_prepool_raises_peak() -> None:
    assert ("prepool-raises-peak", "prepool") in _findings("prepool-lip-4-resnet18-skip-1222")
    assert ("prepool-raises-peak", "prepool") not in _findings("prepool-skip-4-resnet18-skip-1222")


def test_attention_dominates() -> None:
    assert ("attention-dominates", "prepool") in _findings("prepool-nlp-4-resnet18-skip-1222")
    assert not any(code == "attention-dominates" for code, _ in _findings("prepool-nlp-4-resnet18-skip-1222", 64))


def test_acknowledging() -> None:
    with torch.device("meta"):
        findings = diagnose(sapool.compile("resnet18-maxp-1222", image_size=90))
    assert unacknowledged(findings, ["lost-rows"]) == []
    with pytest.raises(sapool.InputError, match=r"no diagnostic 'lost-row'.*Did you mean 'lost-rows'"):
        unacknowledged(findings, ["lost-row"])


def test_every_code_has_its_section() -> None:
    text = (Path(__file__).parents[1] / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(CODES)
