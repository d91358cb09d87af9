"""Attention head by head: fewer queries, keys and values at a time, and the same linear maps one after the other."""
