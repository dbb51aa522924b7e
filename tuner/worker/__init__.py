"""The process that measures: takes the device, checks kernels, runs attempts, counts its memory.

Started by measuring as a process of its own; predict's calibration and doctor borrow its look at the card.
Imports values, machine, measuring (the protocol) and workloads. Loads torch.
"""
