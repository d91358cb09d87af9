"""Threads that compile leave each other, and threads that run and train other models, alone."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import sapool
from sapool.analysis import source

TEXTS = ("resnet18-nlp_headfix2-1222", "vgg11-lip-22222", "alexnet-maxp-222", "squeezenet1_1-avgp-2221")


def compile_one(number: int) -> str:
    if number % 8 == 0:
        source._template.cache_clear()  # else a backbone is traced once in a process
    with torch.device("meta"):
        return str(sapool.compile(TEXTS[number % len(TEXTS)], image_size=96).architecture)


def in_company(threads: int, compiles: int) -> None:
    calls = (nn.Module.__call__, nn.Module.__getattr__)
    stop, steps = threading.Event(), [0]

    def work() -> None:
        """Trains a network, and reads its parameters, while others are traced."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        optimizer = None
        while not stop.is_set():
            loss = F.cross_entropy(net(torch.randn(2, 3, 8, 8)), torch.tensor([0, 1]))
            optimizer = optimizer or torch.optim.SGD(net.parameters(), 0.01)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert isinstance(net[0].weight, nn.Parameter)
            steps[0] += 1

    with ThreadPoolExecutor(1) as other, ThreadPoolExecutor(threads) as pool:
        trained = other.submit(work)
        try:
            found = list(pool.map(compile_one, range(threads * compiles)))
        finally:
            stop.set()
        trained.result()
    assert found == [TEXTS[number % len(TEXTS)] for number in range(threads * compiles)]
    assert steps[0] > 0
    assert (nn.Module.__call__, nn.Module.__getattr__) == calls
    assert nn.Sequential(nn.Linear(2, 2))(torch.zeros(1, 2)).shape == (1, 2)


def test_compiling_in_threads() -> None:
    in_company(threads=4, compiles=3)


@pytest.mark.slow
def test_compiling_in_eight_threads_many_times_each() -> None:
    in_company(threads=8, compiles=25)


def test_unpickling_in_threads() -> None:
    with torch.device("meta"):
        content = pickle.dumps(sapool.compile("resnet18-lip-1222", image_size=64))
    with ThreadPoolExecutor(4) as pool:
        codes = {model.code for model in pool.map(pickle.loads, [content] * 12)}
    assert len(codes) == 1
    assert nn.Sequential(nn.Linear(2, 2))(torch.zeros(1, 2)).shape == (1, 2)
