"""Rewrites for inference: what training needs and an evaluated network does not."""
