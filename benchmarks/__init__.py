"""Measurements of how fast this project is, beside other code; each prints JSON and runs with `python -m`."""
