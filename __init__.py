"""phase8-tune: training settings for a language model that fit a small GPU, found by measuring them."""

__version__ = "0.1.0"
