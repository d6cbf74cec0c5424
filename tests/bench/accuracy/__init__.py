"""How right the classifier is: `python -m tests.bench.accuracy`; see `__main__`."""
