"""Side-by-side measurements against anchors; run from the repository, not installed."""
