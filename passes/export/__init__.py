"""Passes for networks that leave torch: what TensorFlow Lite Micro can do, and does cheaply."""
