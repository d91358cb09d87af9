"""Pictures and pages that people look at: a self-contained report, and a network's graph in other formats."""
