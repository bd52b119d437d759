"""How results are shown: `html.py` writes the report, `tables.py` rows of text for report and terminal, `figures.py`
and `feature_space.py` the figures. Imports `results/` and `store/`. Begin with `html.py`.
"""
