"""`stripes`: images with stripes that run across or down."""

import torch

import sapool
from sapool.classify.data.images import InMemoryImages, Splits


@sapool.register_data_set("stripes", title="the stripes", size=16, augment="none")
def read_stripes(entry, root):  # type: ignore[no-untyped-def]
    """120 images to train on and 40 to test with; nothing is read from the folder."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> InMemoryImages:
        labels = torch.arange(count) % 2
        rows = torch.arange(16) % 4 < 2
        images = torch.stack([(rows[:, None] if label else rows[None]).expand(16, 16) for label in labels.tolist()])
        noise = torch.randint(0, 60, images.shape, generator=generator)
        return InMemoryImages((images * 180 + noise).to(torch.uint8)[:, None], labels)

    return Splits(part(120), part(40), ("down", "across"))
