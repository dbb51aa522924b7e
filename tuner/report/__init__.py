"""What was found, for people: tables, pages, the terminal, and a run's output files.

Imported by commands; imports search, training, records, study, machine, values.
"""
