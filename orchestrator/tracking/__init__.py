"""Results in MLflow: `mlflow.py`, the one module that imports it, exports a run from its ledger and store, and may be
repeated without harm.
"""
