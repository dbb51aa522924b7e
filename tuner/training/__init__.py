"""The trainer around the step: settings files, text, checkpoints.

Imported by report and commands; imports predict, records, worker (the look at the card), machine and values.
"""
