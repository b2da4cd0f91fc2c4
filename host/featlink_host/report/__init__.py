"""The report: features beside JPEG and x265 of the same pictures, in one HTML file that needs nothing else."""
