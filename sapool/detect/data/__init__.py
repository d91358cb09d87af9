"""Images with boxes, in COCO's format."""
