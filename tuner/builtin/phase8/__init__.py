"""The Phase 8 language model as a workload.

spec loads no torch; workload runs the step of phase8/training.py. Loaded by name, in the worker's process.
"""
