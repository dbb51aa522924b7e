"""The workloads that come with phase8-tune. Loaded by name only, in the worker's process.

Imported by nothing; may import every room below, and is the only one that shall know the Phase 8 model.
"""
