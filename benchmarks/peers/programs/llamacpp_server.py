"""llama.cpp's server out of the xllamacpp wheel, until its input ends.

    python benchmarks/peers/programs/llamacpp_server.py MODEL.gguf [--slots 8] [--context 16384] [--threads N]

Prints the address when it is ready. Its defaults but for the slots: continuous batching, flash attention where it
finds that good, prompts cached, a thread for each physical core.
"""

from __future__ import annotations

import sys

import click
import xllamacpp


@click.command()
@click.argument("model")
@click.option("--slots", default=8)
@click.option("--context", default=16384, help="Of all slots together.")
@click.option("--threads", default=0, help="0: llama.cpp's choice, the physical cores.")
def main(model: str, slots: int, context: int, threads: int) -> None:
    """Serve until standard input ends."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = slots
    params.n_ctx = context
    params.port = 0
    params.verbosity = 1
    if threads:
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    click.echo(f"ready at {server.listening_address}")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
