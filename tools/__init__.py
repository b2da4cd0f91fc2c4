"""What the longer tasks of tasks.py do."""
