"""What there is to choose from, as data: backbones, poolings, data sets, diagnostics."""
