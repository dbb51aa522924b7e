"""The whole block, x ← x + y: a composition of the other operations, and one operation in `fast`."""
