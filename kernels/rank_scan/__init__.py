"""Rank scan: a dense linear recurrence in the small space of the AR-SSM fusion."""
