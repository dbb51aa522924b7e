"""Where a study is measured and predicted: on this computer, or over the nodes of a Ray cluster.

Imported by commands. Nothing else branches by the place; only here is Ray known, and loaded where asked for.
"""
