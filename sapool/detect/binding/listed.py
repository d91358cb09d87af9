"""Parts of detectors, and of how they are trained, that a run of somebody's may name in its base.

Built from plain settings each computes; by their source none opens a file, connects, or looks up another
name. Parts of mmdet that aren't here read what they are told to (`LoadProposals`), fetch models (`BertModel`,
`LADHead`), build whatever a library has (`Albu`), or aren't of detectors that the binder knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sapool.detect.binding.families import BOX_HEADS, EXTRACTORS, HEADS, NECKS, REFINERS, ROI_HEADS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETECTORS = _names(
    """
    ATSS AutoAssign CascadeRCNN ConditionalDETR DABDETR DDOD DETR DINO DeformableDETR FCOS FOVEA FSAF FasterRCNN GFL
    MaskRCNN NASFCOS PAA QueryInst RPN RTMDet RepPointsDetector RetinaNet SingleStageDetector SparseRCNN TOOD VFNet
    YOLOF YOLOV3 YOLOX
    """
)
_LAYERS = _names(
    """
    BN BN1d BN2d Conv Conv2d ConvAWS ConvModule ConvWS DCN DCNv2 DynamicConv GELU GN HSigmoid HSwish IN LN LeakyReLU
    LearnedPositionalEncoding MMSyncBN Mish NormedConv2d NormedLinear PReLU ReLU ReLU6 RoIAlign RoIPool SiLU Sigmoid
    SinePositionalEncoding Swish SyncBN Tanh bilinear carafe deconv nearest nms soft_nms
    """
)
_LOSSES = _names(
    """
    BBoxL1Cost BalancedL1Loss BoundedIoULoss CIoULoss ClassificationCost CrossEntropyLoss DIoULoss DiceLoss
    DistributionFocalLoss EIoULoss FocalLoss FocalLossCost GHMC GHMR GIoULoss GaussianFocalLoss IoUCost IoULoss
    L1Loss MSELoss QualityFocalLoss SeesawLoss SmoothL1Loss VarifocalLoss
    """
)
_TASKS = _names(
    """
    ATSSAssigner AnchorGenerator ApproxMaxIoUAssigner BboxOverlaps2D BucketingBBoxCoder CenterRegionAssigner
    CombinedSampler DeltaXYWHBBoxCoder DistancePointBBoxCoder DynamicSoftLabelAssigner GridAssigner
    HungarianAssigner InstanceBalancedPosSampler IoUBalancedNegSampler LegacyAnchorGenerator
    LegacyDeltaXYWHBBoxCoder LegacySSDAnchorGenerator MaxIoUAssigner MlvlPointGenerator OHEMSampler PointAssigner
    PseudoSampler RandomSampler SSDAnchorGenerator ScoreHLRSampler SimOTAAssigner TBLRBBoxCoder TaskAlignedAssigner
    UniformAssigner YOLOAnchorGenerator YOLOBBoxCoder
    """
)
_FIRST_WEIGHTS = _names(
    """
    Caffe2Xavier Constant Kaiming Normal TruncNormal Uniform Xavier
    """
)
_PREPARED = _names(
    """
    BatchFixedSizePad BatchResize BatchSyncRandomResize DetDataPreprocessor
    """
)
MODEL = _DETECTORS.union(
    *(_LAYERS, _LOSSES, _TASKS, _FIRST_WEIGHTS, _PREPARED, NECKS, REFINERS, HEADS, ROI_HEADS, BOX_HEADS, EXTRACTORS)
)
"""In a model; the network that the recipe names takes the place of its backbone."""

PRETRAINED = ("Pretrained", "PretrainedInit")
"""Weights to begin with, which are left out: a run's are in its checkpoint."""

TRANSFORMS = _names(
    """
    CachedMixUp CachedMosaic Expand FilterAnnotations LoadAnnotations LoadImageFromFile MinIoURandomCrop MixUp
    Mosaic PackDetInputs Pad PhotoMetricDistortion RandomAffine RandomChoice RandomChoiceResize RandomCrop
    RandomFlip RandomResize RandomShift Resize YOLOXHSVRandomAug
    """
)
SAMPLERS = _names(
    """
    AspectRatioBatchSampler ClassAwareSampler DefaultSampler InfiniteSampler
    """
)
COLLATED = _names(
    """
    default_collate pseudo_collate
    """
)
OPTIMIZERS = _names(
    """
    ASGD Adadelta Adagrad Adam AdamW Adamax AmpOptimWrapper NAdam OptimWrapper RAdam RMSprop SGD
    """
)
SCHEDULES = _names(
    """
    ConstantLR CosineAnnealingLR CosineRestartLR ExponentialLR LinearLR MultiStepLR OneCycleLR PolyLR
    QuadraticWarmupLR StepLR
    """
)
HOOKS = _names(
    """
    CheckInvalidLossHook EMAHook ExpMomentumEMA ExponentialMovingAverage MomentumAnnealingEMA NumClassCheckHook
    PipelineSwitchHook StochasticWeightAverage SyncNormHook YOLOXModeSwitchHook
    """
)

WRAPPERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "RepeatDataset": ("times",),
        "ClassBalancedDataset": ("oversample_thr",),
        "MultiImageMixDataset": ("pipeline", "skip_type_keys", "max_refetch"),
    }
)
"""Data sets around a data set, and the settings that they have of their own."""
