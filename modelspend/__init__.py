"""A localhost sidecar for language-model calls: every call leaves one exact receipt in dollars."""

__version__ = "0.1.0"
