"""featlink's wire formats, sans I/O: bytes in, values out."""
