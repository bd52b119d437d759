"""The experiment spec: what a user may ask for."""
