"""The driver's side of a measurement: a worker process kept, watched and replaced; outcomes; the pool.

Imported by worker (the protocol) and by the rooms above it; imports values and machine. Loads no torch.
"""
