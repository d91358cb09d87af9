"""A network of four convolutions, whose batch norms know some images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sapool
from sapool.model import CompiledModel

SIZE = 32


def convolved(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Tiny(nn.Module):
    """(N, 3, H, W) to (N, 5), on three scales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer1 = convolved(3, 8, 2), convolved(8, 8, 1)
        self.layer2, self.layer3 = convolved(8, 12, 2), convolved(12, 16, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def images(count: int = 16, size: int = SIZE) -> Tensor:
    """Smooth ones."""
    generator = torch.Generator().manual_seed(0)
    return F.avg_pool2d(torch.randn(count, 3, size, size, generator=generator), 5, 1, 2) * 4


def tiny(pooling: str, seed: int = 0, size: int = SIZE) -> CompiledModel:
    """Its pools stand where its second and third block stride."""
    torch.manual_seed(seed)
    model = sapool.compile(f"{pooling}-122", num_classes=5, image_size=size, backbone=Tiny())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(images(size=size))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()
