"""The channels of images: as Pillow converts them, from files and from memory alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from sapool.errors import InputError
from sapool.runs.channels import shown, stored, with_channels
from sapool.runs.images import read_image

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def picture(channels: int, height: int = 33, width: int = 47) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (channels, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("own", MODES)
@pytest.mark.parametrize("wanted", MODES)
def test_conversions_are_pillows(own: int, wanted: int, tmp_path: Path) -> None:
    image = picture(own)
    pillow = TF.to_pil_image(image)
    assert pillow.mode == MODES[own]
    expected = TF.pil_to_tensor(pillow.convert(MODES[wanted]))
    assert torch.equal(with_channels(image, wanted), expected)
    pillow.save(tmp_path / "image.png")
    assert torch.equal(read_image(tmp_path / "image.png", wanted), expected)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("P", 3), ("CMYK", 3), ("HSV", 3), ("F", 1)])
def test_other_modes_are_looked_up(mode: str, channels: int) -> None:
    assert stored(Image.new(mode, (5, 4))).shape == (channels, 4, 5)


def test_sixteen_bits_lose_the_lower_eight(tmp_path: Path) -> None:
    wide = np.array([[0, 256, 65535], [511, 512, 1]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 1).tolist() == [[[0, 1, 255], [1, 2, 0]]]


def test_more_channels_come_from_grey_or_from_the_data() -> None:
    assert torch.equal(with_channels(picture(1), 6), picture(1).expand(6, -1, -1))
    assert with_channels(picture(7), 7).shape[0] == 7
    for own, wanted in ((3, 5), (7, 3), (7, 1)):
        with pytest.raises(InputError, match=rf"images have {own} channels, which aren't {wanted}: set model.in_chans"):
            with_channels(picture(own), wanted)
    assert [shown(picture(n)).shape[0] for n in (1, 2, 3, 4, 7)] == [3] * 5
