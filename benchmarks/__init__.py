"""Measurements that anyone can repeat: `python -m benchmarks.<name>` from the repository's root."""
