"""Does it work here: looks at the machine, and says for each problem what to do.

Imported by commands; imports measuring, worker, machine, values.
"""
