"""Train a small network after a larger one's answers. Only what needs PyTorch imports it: the extra `train`."""
