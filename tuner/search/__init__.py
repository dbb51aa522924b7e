"""What to measure next, and when to stop; and what a plan decides where nothing is measured.

Imported by report and commands; imports predict, records, study, measuring, values.
"""
