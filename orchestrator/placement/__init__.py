"""Where a job fits: `nodes.py` matches what a job asks for with what nodes have, by arithmetic alone; `sizing.py`
decides what it asks for; `machine.py` describes this machine. Imports from no other room. Begin with `nodes.py`.
"""
