"""Adjustable-bit quantization of a network: its weights, what goes into its layers, and the integer network of both."""
