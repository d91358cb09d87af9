"""What a network costs: multiply-accumulates, activation memory, and what its plan should be told."""
