"""Is a hand-off folder complete, its model safe to open, and its output right? A copy of this is in every such folder.

It imports nothing from the pipeline, only its own modules, by relative names. What the two sides agree on is defined
here: names, axes, opset, and how far an output may be off.
"""
