"""Model-inversion attacks and the parts they are made of."""
