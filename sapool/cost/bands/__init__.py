"""Stretches of a network in bands of rows, as a runtime takes them that does nothing in place and pads all or nothing."""
