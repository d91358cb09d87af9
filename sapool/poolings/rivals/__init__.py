"""Poolings that others published and that a comparison needs, one family a file."""
