"""Every network of a space, by what it needs: planned, counted without weights, and held against a budget."""
