"""The far end: receive, decode, run the head; prepare models; report."""
