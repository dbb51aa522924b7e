"""Spectral norm of a small square matrix, by squarings of its Gram matrix."""
