"""One file a command, from its options to what it prints and its exit code.

Imported by cli and library only; may import every room.
"""
