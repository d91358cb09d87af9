"""`tinynet`: two stages of one convolution each."""

from torch import nn

import sapool


@sapool.register_backbone("tinynet", strides="22", pools="last")
def tinynet(num_classes: int = 1000) -> nn.Module:
    """(N, 3, H, W) to (N, num_classes)."""

    def block(channels: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1), nn.ReLU()
        )

    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(
        stem, block(4, 8), block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )
