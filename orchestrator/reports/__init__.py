"""How results are shown: `html.py` writes the report into the template `report.html`, `findings.py` says in sentences
what a sweep shows, `tables.py` makes rows of text for report and terminal, `figures.py` and `feature_space.py` draw;
`model_export.py` writes a model with its card.
Imports `results/`, `search/` and `store/`. Begin with `html.py`.
"""
