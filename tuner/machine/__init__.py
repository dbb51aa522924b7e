"""What this computer and its GPUs are: NVML, power, memory, versions, where caches lie.

Imported by every room above; imports values.
"""
