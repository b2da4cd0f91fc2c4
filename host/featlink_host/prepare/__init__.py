"""From a whole network to an extractor: split it, look at its feature maps, agree on quantizer and packing."""
