"""Samplers choose the points of a search. Each has a file with its settings and its code, and registers itself in
`base.py`, which says what a sampler is. This room imports `search/space.py`. Begin with `base.py`.
"""
