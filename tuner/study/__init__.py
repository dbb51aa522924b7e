"""What is to be searched: study definitions (YAML) and the space of candidates they span.

Imported by records and the rooms above; imports values.
"""
