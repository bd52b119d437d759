"""Export to MLflow, rebuilt from ledger and store at any time."""
