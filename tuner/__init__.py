"""The search for training settings, in rooms. A room imports only rooms below it; from the ground up:

values, machine, measuring, workloads, worker, study, records, predict, builtin, training, search, doctor,
report, commands, and `cli`, which puts the commands together. docs/architecture.md draws them.
"""
