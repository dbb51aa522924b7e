"""The trainer around the step: settings files, text, checkpoints.

Imported by report and commands; imports records and values.
"""
