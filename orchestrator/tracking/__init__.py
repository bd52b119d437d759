"""Results in MLflow: `mlflow.py`, the one module that imports it, exports a run from its ledger and store; a second
export changes nothing. Imports `planning/`, `results/` and `store/`.
"""
