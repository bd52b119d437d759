"""Samplers over the search space, and what they found."""
