"""The one training loop of every classifier, and what is read off a trained one.

`loop.py` trains, defended or not; `prediction.py` gives logits and features in batches; `classifiers.py` stores a
trained classifier and loads it. Imports from the rooms below. Begin with `train` in `loop.py`.
"""
