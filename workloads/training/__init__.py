"""The one training loop of all classifiers, and what is read from a trained one.

`loop.py` trains, defended or not; `step.py` is one step of it, `average.py` the moving average of a network;
`prediction.py` gives logits and features in batches; `classifiers.py` stores a trained classifier and loads it;
`checkpoint_files.py` and `class_names.py` read one that was trained elsewhere.
Imports from the rooms below. Begin with `train` in `loop.py`.
"""
