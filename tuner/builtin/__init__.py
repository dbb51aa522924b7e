"""The workloads that come with phase8-tune, and the only room that knows the Phase 8 model.

Loaded by name, but for `drawing`; may import every room below.
"""
