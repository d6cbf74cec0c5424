"""The life of one request: read, choose, record the intent, carry, price, record the receipt.

`life.py` tells the story in order; the other files are what it calls.
"""
