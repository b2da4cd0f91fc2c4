"""The virtual encoder: a libv4l2 plugin in C, a stateful HEVC encoder over libx265 with the manners of hardware."""
