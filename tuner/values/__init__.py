"""What is passed around: candidates, records, measurements, sizes, errors. Frozen, and no work of their own.

Every room may import this one; it imports nothing of ours.
"""
