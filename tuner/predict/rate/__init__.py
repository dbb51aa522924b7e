"""How fast a step is on a card: profiles, their calibration, the roofline and its correction.

Imported by prediction, lines, search and commands; imports fit and trace.
"""
