"""Defenses: hooks into training that compose in a list."""
