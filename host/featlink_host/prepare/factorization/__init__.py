"""Factorization: a layer as two thinner ones, by singular value decomposition."""
