"""What an attacker may observe of a target model, and how it scores what it sees.

`oracles.py` holds the threat model as types (labels, scores, white box) and counts queries; `views.py` shows images
through random crops, flips and colours; `objectives.py` scores answers against an identity. Imports from `core` and
`models`. Begin with `oracles.py`.
"""
