"""What one training step allocates, computes and moves, followed on tensors without data.

Imported by the rest of predict; imports values. Loads torch in processes of its own.
"""
