"""Tensors from files and into them: transfer, the authors' names, whole files."""
