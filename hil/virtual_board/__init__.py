"""The virtual board: an aarch64 Debian guest for QEMU with a real board's name, made of packages alone."""
