"""Generative priors: latents to images, fitted on public data."""
