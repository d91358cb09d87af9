"""mmcv's operators, on torchvision's."""
