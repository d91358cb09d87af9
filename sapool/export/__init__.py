"""What leaves the compiler, one writer a file format."""
