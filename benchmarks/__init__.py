"""Measurements of our speed beside other implementations; each prints JSON and is run with `python -m`."""
