"""Next-token cross-entropy through the tied HTT head."""
