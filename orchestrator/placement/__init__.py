"""Where a job fits: `nodes.py` matches what a job needs with what nodes have, by arithmetic alone; `machine.py`
describes this machine. Imports from no other room. Begin with `nodes.py`.
"""
