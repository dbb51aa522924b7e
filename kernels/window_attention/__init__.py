"""Windowed causal attention with scores from the Poincaré ball's geodesic distance."""
