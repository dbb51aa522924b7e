"""What was found: the journal, the Optuna study, the run's folder, the frontier, what is recommended.

Imported by search, training, report and commands; imports study, machine (the lock), values.
"""
