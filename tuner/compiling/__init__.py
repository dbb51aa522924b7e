"""Kernels of candidates, compiled before they are launched: in several processes, without the GPU.

Imported by search and commands; imports predict (lines, operations, limits), worker, machine and values.
"""
