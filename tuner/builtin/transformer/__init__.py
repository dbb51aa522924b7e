"""The built-in transformer: a GPT-2- or Llama-class decoder in plain PyTorch, at the sizes of Phase 8.

config and spec load no torch; training makes one step of it. Loaded by name, in the worker's process.
"""
