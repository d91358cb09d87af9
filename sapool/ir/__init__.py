"""What was written, and what will be done: plain data, without torch."""
