"""The poolings, one small file per family, each declared where it is written.

Every pooling maps (N, C, H, W) to (N, C, ⌊H/s⌋, ⌊W/s⌋): kernel = stride = s, no padding. `A` in the docstrings is
average pooling with that kernel and stride, σ the sigmoid, BN batch normalisation.
"""

from sapool.poolings.base import ConvFactory, Pooling, build

__all__ = ["ConvFactory", "Pooling", "build"]
