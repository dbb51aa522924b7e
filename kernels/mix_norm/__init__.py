"""The block's epilogue: causal convolution, mix of the two paths, LayerNorm, resolvent term, residual."""
