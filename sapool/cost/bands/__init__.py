"""Stretches of a network in bands of rows, for a runtime that does nothing in place and pads all sides or none."""
