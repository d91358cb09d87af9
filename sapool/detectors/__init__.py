"""torchvision's detectors on compiled networks, trained by Lightning. Nothing here needs mmdet."""
