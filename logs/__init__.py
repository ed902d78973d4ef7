"""What was asked, tried and found: the trace store and its exports."""
