"""A line of candidates, all batches of one model, from a few traces.

Imported by replay, rate and jobs; imports trace.
"""
