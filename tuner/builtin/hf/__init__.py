"""Any causal language model of transformers as a workload, built from its configuration.

known_models, spec and arguments load neither torch nor transformers; training makes one step.
"""
