"""A recipe times axes: many runs, shared out among processes and machines, each trained once."""
