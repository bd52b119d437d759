"""What an attacker may observe of a target model, and how it scores what it sees.

`oracles.py` holds the threat model as types (labels, scores, white box) and counts queries; `views.py` shows images
through random crops, flips and colours; `losses.py` holds the losses of logits that attacks descend on. Imports
from `core` alone. Begin with `oracles.py`.
"""
