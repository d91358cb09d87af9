"""A compiled network bound into one of mmdet's configs."""
