"""The block's epilogue: causal convolution, gated mix of the two paths, LayerNorm, resolvent term, residual."""
