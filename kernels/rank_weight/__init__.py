"""Rank weight: how much of a token enters the state of the AR-SSM fusion, from its hyperbolic radius."""
