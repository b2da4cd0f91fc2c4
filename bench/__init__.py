"""What the C core costs, measured against memory and against what people use. `python -m bench --help`."""
