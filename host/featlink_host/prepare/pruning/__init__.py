"""Pruning: single weights set to zero, or whole channels taken out of the graph."""
