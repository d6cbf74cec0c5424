"""`python -m modelspend` is the same program as `modelspend`."""

from modelspend.cli import main

if __name__ == "__main__":
    main()
