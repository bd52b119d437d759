"""What training, attacks and priors reach of a GPU: `python -m benchmarks.gpu`, in at most five minutes on an H100.

Each group of numbers is a file: `training.py`, `attacks.py`, `priors.py`, `sharing.py` (jobs that share a card) and
`start.py` (of a job). `card.py` knows what a card could do, and `rows.py` what a number is. Begin with `training.py`.
"""
