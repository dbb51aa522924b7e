"""AR-SSM scan: gated multi-scale exponential averages over the sequence."""
