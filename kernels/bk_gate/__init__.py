"""BK hyperbolic integration: the channel-wise BK scan and the gate it drives."""
