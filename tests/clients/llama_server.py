#!/usr/bin/env python3
"""A real llama.cpp server on loopback, from the prebuilt `xllamacpp` wheel.

    llama_server.py PORT GGUF [--name NAME]

Prints READY once the model is loaded and answers, and serves until it is killed. The API is
OpenAI's at http://127.0.0.1:PORT/v1, with one slot and a context of 4096 tokens.
"""

import argparse
import threading

import xllamacpp


def parameters(port, gguf, name):
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 4096
    params.n_parallel = 1
    # Two threads wait for each other by spinning: on a busy machine of two cores that was twenty
    # times slower than when it was idle. One thread only shares.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    # One release takes a string here, another a set of them.
    params.model_alias = {name} if isinstance(params.model_alias, set) else name
    params.use_jinja = True
    return params


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("gguf")
    parser.add_argument("--name", default="smollm2")
    args = parser.parse_args()
    # The constructor returns when the model is loaded and the port is open.
    server = xllamacpp.Server(parameters(args.port, args.gguf, args.name))
    print(f"READY {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
