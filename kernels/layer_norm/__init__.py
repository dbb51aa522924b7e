"""LayerNorm, with the BK-Core's potential read off its output in the fused version."""
