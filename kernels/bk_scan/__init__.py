"""BK scan: the causal resolvent of a chain, one chain a row (the block's BK-Core) or one a channel."""
