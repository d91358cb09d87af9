"""What the parts of mmdet's detectors need to know of the maps that they see, as data: necks, heads, RoI extractors.

Every rule was read off the constructors of mmdet 3.3.0. A part that isn't here is refused by name: its numbers would be
left as the base has them, and a detector with wrong numbers trains without complaint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Neck:
    """How a neck is told about the maps that it takes.

    Attributes:
        deepest_first: its `in_channels` begin with the deepest map.
        follows: its first outputs have the channels of its inputs.
        halving: it adds maps that it enlarges by exactly 2, so that each map must be half as large as the one before.
    """

    deepest_first: bool = False
    follows: bool = False
    halving: bool = False


NECKS: Mapping[str, Neck] = MappingProxyType(
    {
        **dict.fromkeys(("FPN", "FPN_CARAFE", "PAFPN", "NASFCOS_FPN", "ChannelMapper", "DilatedEncoder"), Neck()),
        **dict.fromkeys(("CSPNeXtPAFPN", "YOLOXPAFPN", "NASFPN"), Neck(halving=True)),
        "YOLOV3Neck": Neck(deepest_first=True, halving=True),
        "SSDNeck": Neck(follows=True),
    }
)

REFINERS = frozenset({"BFP"})
"""Necks behind the first one, which see only what that one puts out. mmdet's DyHead isn't one: it gives deformable
convolutions offsets of another map's size, which torchvision refuses."""


@dataclass(frozen=True)
class Head:
    """Where a head keeps what follows from the levels that it sees. Dots lead into the head's own parts.

    Attributes:
        family: as messages call it.
        strides: set to the levels' strides.
        in_strides: lengths in pixels that belong to the strides, and grow with them.
        in_image: lengths in pixels that belong to the image, and grow with its size.
        fixed: images have one size, and the levels' sizes divide it: strides are ratios of the two (Liu et al., ECCV
            2016, section 2.2), also where rounding makes them differ from the products of the convolutions' strides.
    """

    family: str
    strides: tuple[str, ...] = ()
    in_strides: tuple[str, ...] = ()
    in_image: tuple[str, ...] = ()
    fixed: bool = False


_ANCHORS = Head("anchor-based", ("anchor_generator.strides",))
_GUIDED = Head("anchor-based", ("approx_anchor_generator.strides", "square_anchor_generator.strides"))
_YOLO = Head("YOLO", ("featmap_strides", "anchor_generator.strides"), in_image=("anchor_generator.base_sizes",))
_SSD = Head(
    "SSD",
    ("anchor_generator.strides",),
    in_image=("anchor_generator.min_sizes", "anchor_generator.max_sizes"),
    fixed=True,
)
_FREE = Head("anchor-free", ("strides",), in_strides=("regress_ranges",))
_FOVEA = Head("anchor-free", ("strides",), in_strides=("base_edge_list", "scale_ranges"))
_VARIFOCAL = Head("anchor-free", ("anchor_generator.strides",), in_strides=("regress_ranges",))
_POINTS = Head("anchor-free", ("anchor_generator.strides",))
_QUERIES = Head("DETR-like")

HEADS: Mapping[str, Head] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("RPNHead", "AnchorHead", "RetinaHead", "RetinaSepBNHead", "PISARetinaHead", "FreeAnchorRetinaHead"),
                *("ATSSHead", "GFLHead", "PAAHead", "TOODHead", "DDODHead", "FSAFHead", "YOLOFHead"),
            ),
            _ANCHORS,
        ),
        **dict.fromkeys(("GARetinaHead", "GARPNHead", "SABLRetinaHead"), _GUIDED),
        "YOLOV3Head": _YOLO,
        **dict.fromkeys(("SSDHead", "PISASSDHead"), _SSD),
        **dict.fromkeys(("FCOSHead", "NASFCOSHead", "AutoAssignHead", "YOLOXHead"), _FREE),
        "FoveaHead": _FOVEA,
        "VFNetHead": _VARIFOCAL,
        "RepPointsHead": Head("anchor-free", ("point_strides",)),
        **dict.fromkeys(("RTMDetHead", "RTMDetSepBNHead"), _POINTS),
        **dict.fromkeys(
            ("DETRHead", "ConditionalDETRHead", "DABDETRHead", "DeformableDETRHead", "DINOHead", "EmbeddingRPNHead"),
            _QUERIES,
        ),
    }
)

ROI_HEADS = frozenset(
    {"StandardRoIHead", "CascadeRoIHead", "DynamicRoIHead", "DoubleHeadRoIHead", "PISARoIHead", "SparseRoIHead"}
)
BOX_HEADS = frozenset(
    {"BBoxHead", "ConvFCBBoxHead", "Shared2FCBBoxHead", "Shared4Conv1FCBBoxHead", "DoubleConvFCBBoxHead", "SABLHead"}
    | {"DIIHead", "FCNMaskHead"}
)
EXTRACTORS = frozenset({"SingleRoIExtractor", "GenericRoIExtractor"})

FINEST_SCALE = 14.0
"""The finest level takes regions up to this many of its cells wide, twice that goes to the next: Lin et al., CVPR 2017,
equation 1, puts 224 pixels on the level of stride 16."""

SIZES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("Resize", "RandomResize"), "scale"),
        "RandomChoiceResize": "scales",
        "RandomCrop": "crop_size",
        "Pad": "size",
        **dict.fromkeys(("Mosaic", "CachedMosaic", "MixUp", "CachedMixUp"), "img_scale"),
        "RandomAffine": "border",
        "BatchFixedSizePad": "size",
        "BatchSyncRandomResize": "random_size_range",
    }
)
"""Transforms that know the size of images, and where they keep it."""
