"""Images to classify: data sets, transforms, and batches that can be entered anywhere."""
