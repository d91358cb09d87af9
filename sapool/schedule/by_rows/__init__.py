"""How operations work by rows: what each row reads, and how a band of rows is computed."""
