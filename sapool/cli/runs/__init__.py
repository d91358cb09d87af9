"""Commands that make runs, and that work on them."""
