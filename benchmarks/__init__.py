"""What the rearranged arithmetic is worth: ours and the literal formulation side by side."""
