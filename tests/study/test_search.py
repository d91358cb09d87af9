"""Searches: what is put together of known parts is what is measured, and what is returned fits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sapool.cost.assumptions import Assumptions
from sapool.cost.limits import Limits, parse_count, read_limits
from sapool.errors import InputError
from sapool.planning import make_plan
from sapool.study.search import measuring
from sapool.study.search.analytic import look
from sapool.study.search.segments import Meter
from sapool.study.search.space import Candidate, Space, candidates, read_space
from tests.commands import sapoolc

SMALL = Space(backbones=("resnet18",), pools=("skip", "lip"), strides=("[12]2[12]2",), image_sizes=(64, (64, 96)))


@pytest.mark.parametrize(
    "assumptions", [Assumptions(), Assumptions("fp16", "full", False, True)], ids=["usual", "other"]
)
@pytest.mark.parametrize(
    ("backbone", "strides"),
    [
        ("resnet18", ["2222", "1222", "2221", "1221", "1212"]),
        pytest.param("mobilenet", ["2222121", "1222121", "2221121", "1222111", "2222111"], marks=pytest.mark.slow),
    ],
)
def test_what_is_put_together_is_what_is_measured(backbone, strides, assumptions):
    meter, composed = Meter(assumptions), 0
    for text in [f"{backbone}-{pool}-{digits}" for pool in ("skip", "maxp", "nlp") for digits in strides]:
        plan, before = make_plan(text, image_size=(96, 128), num_classes=10), meter.composed
        needs = meter.needs(plan)
        if meter.composed > before:
            composed += 1
            assert needs == Meter(assumptions).measure(plan), text
    assert composed >= 3


def test_plans_whose_sites_pool_each_in_its_way_are_put_together_too():
    meter, plan = Meter(Assumptions()), make_plan("resnet18-nlp-2222", image_size=96)
    meter.needs(plan)
    meter.needs(make_plan("resnet18-lip-2222", image_size=96))
    edited = plan.with_pool("stage2", "lip").with_pool("stage4", "lip")
    needs = meter.needs(edited)
    assert meter.composed == 1
    assert needs == Meter(Assumptions()).measure(edited)


def test_sizes_of_one_network_after_each_other_are_measured_as_each_alone():
    meter = Meter(Assumptions())
    for size in (96, (64, 96), 128):
        plan = make_plan("resnet18-lip-2222", image_size=size)
        assert meter.measure(plan) == Meter(Assumptions()).measure(plan)
    small = make_plan("resnet18-lip-2222", image_size=8)
    with pytest.raises(InputError, match="too small"):
        meter.measure(small)


def test_networks_with_most_new_stages_come_first_and_sizes_of_one_stay_together():
    group = [Candidate(f"resnet18-lip-{digits}", size) for digits in ("1111", "1112", "2222") for size in (64, 128)]
    ordered = measuring.in_order(group)
    assert sorted(map(str, ordered)) == sorted(map(str, group))
    assert [one.text[-4:] for one in ordered[::2]] == ["1111", "2222", "1112"]
    assert [one.image_size for one in ordered] == [128, 64] * 3


@pytest.mark.slow
def test_the_command_which_takes_every_core_finds_what_one_process_does():
    sizes = (32, 48, 64, 96)
    space = Space(
        backbones=("timm:test_resnet",), pools=("skip", "lip"), strides=("[12][12][12][12]",), image_sizes=sizes
    )
    words = ["--backbone", *space.backbones, "--strides", *space.strides, "--macs", "20M", "--json"]
    words += [word for pool in space.pools for word in ("--pool", pool)]
    words += [word for size in sizes for word in ("--image-size", str(size))]
    command = [sys.executable, "-m", "sapoolc", "search", *words]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    alone = json.loads(json.dumps(look(space, Limits(macs=20_000_000)).as_data()))
    assert {**told, "seconds": 0} == {**alone, "seconds": 0}
    assert 0 < len(alone["fitting"]) < alone["looked_at"] == 128 > measuring._FEW


@pytest.mark.slow
def test_everything_that_is_returned_fits_and_nothing_that_fits_is_missing():
    limits = Limits(memory=200 * 1024, macs=200_000_000)
    found = look(SMALL, limits)
    fits = [one.candidate for one in found.fitting]
    for candidate in candidates(SMALL)[0]:
        needs = Meter(Assumptions()).measure(make_plan(candidate.text, image_size=candidate.image_size))
        assert (candidate in fits) == (not limits.exceeded(needs)), candidate
    assert 0 < len(fits) < found.looked_at == 16
    arenas = [(one.needs.arena, one.needs.macs) for one in found.front]
    assert arenas == sorted(arenas)
    assert sorted(macs for _, macs in arenas) == [macs for _, macs in arenas]


@pytest.mark.slow
def test_the_command_finds_and_compile_agrees():
    words = ("--backbone", "resnet18", "--pool", "lip", "--strides", "[12]222", "--image-size", "64")
    out, _ = sapoolc("search", *words, "--budget", "128KB", "--no-train", "--json")
    for one in json.loads(out)["fitting"]:
        told, _ = sapoolc("compile", one["text"], "--image-size", 64, "--budget", "128KB", "--json")
        assert json.loads(told)["memory"]["arena"] == one["arena"] <= 128 * 1024


def test_a_budget_that_nothing_fits_says_what_comes_closest_and_what_is_to_blame():
    words = ("--backbone", "resnet18", "--pool", "lip", "--strides", "[12]222", "--image-size", "64")
    out, said = sapoolc("search", *words, "--budget", "20KB", code=1)
    assert "0 fit" in out
    assert "resnet18-lip-2222 at 64 comes closest: memory:" in said
    assert "; stem needs " in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--backbone", "resnet18"), "which budget?"),
        (("--budget", "1KB", "--backbone", "resnet18", "--pool", "lip"), "the setting 'strides' is missing"),
        (("--budget", "1KB", "--backbone", "resnet18", "--pool", "lip", "--strides", "[12"), "a bracket is open"),
        (("--budget", "1KB", "--backbone", "resnet18", "--pool", "lip", "--strides", "12"), "there is no network"),
        (("--macs", "many", "--backbone", "resnet18"), "'many' isn't a number"),
        (("--device", "abacus", "--backbone", "resnet18"), "abacus"),
    ],
)
def test_a_search_that_makes_no_sense(words, sentence):
    _, said = sapoolc("search", *words, code=2)
    assert sentence in said
    assert said.count("\n") == 1


def test_a_space_without_any_choice_of_prepools_is_refused_before_anything_is_drawn(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(f'backbones=["alexnet"]\npools=["lip"]\nstrides=["{"[0123456789]" * 30}"]\nprepools=[]\n')
    with pytest.raises(InputError, match="prepools: it is empty"):
        read_space(str(file), {})


def test_limits_are_read_as_people_write_them():
    assert read_limits({"memory": "256KB", "macs": "50M", "parameters": 1000}) == Limits(256 * 1024, 50_000_000, 1000)
    assert parse_count("1.5k") == 1500
    with pytest.raises(InputError, match="nothing fits into nothing"):
        read_limits({"macs": 0})
