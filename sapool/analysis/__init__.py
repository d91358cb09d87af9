"""What a traced backbone is: its graph, its dataflow, its shapes, its stages."""
