"""What one job computes: PyTorch and pydantic, no Ray, no MLflow, no notion of a sweep."""
