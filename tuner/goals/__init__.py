"""What a user wants of a run, as pure functions over its points: goals, filters, expected losses.

Nothing here is measured, predicted, or written; other rooms only hand over points and take answers.
"""
