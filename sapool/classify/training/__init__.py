"""Training a classifier: what Lightning is given, and what it is kept from."""
