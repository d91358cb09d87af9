"""What a package from outside brings to sapool."""
