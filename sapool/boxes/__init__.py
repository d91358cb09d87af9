"""What detection is about, whatever the engine: data sets in COCO's format, boxes, drawings, average precision."""
