"""Memory and throughput without a GPU: a step is traced, fitted over batches, replayed and rated.

Imported by search and commands; imports values, machine, measuring (the budget's arithmetic) and worker (the
look at the card). docs/predict.md tells the way; trace, fit, replay and rate are its stations.
"""
