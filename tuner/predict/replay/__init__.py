"""PyTorch's caching allocator and the driver beneath it, simulated: what a step's events reserve.

Imported by jobs; imports fit and trace.
"""
