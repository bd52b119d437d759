"""Classifiers: logits and penultimate features."""
