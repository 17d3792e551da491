"""What is looked at when a candidate is judged: pure functions of per-row answers, no I/O."""
