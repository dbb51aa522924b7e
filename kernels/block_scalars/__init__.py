"""Block scalars: a block's energy, curvature and sharpness from the three numbers that are learned."""
