"""Holographic tensor-train embedding: token rows contracted from two cores, never stored as a table."""
