"""Measures the tokens per second that `pgjax serve` gives to 1, 8 and 64 clients at once.

    python tools/bench/serving.py [--size mid] [--clients 1 8 64] [--tokens 64] [--rounds 2]

Every client asks about an image of its own, one request after another, and gets answers of as many
tokens, which random weights do not end early. Beside it stands one by one: `Model.generate`, which
answers the same questions after each other. Compiling is not timed. Answers to the first questions
are compared: both are greedy and must be the same.
"""

import argparse
import base64
import functools
import io
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
from common import SIZES, Row, machine, random_arrays, versions
from PIL import Image

from pgjax.text.tokenizer import Tokenizer


class Vocabulary(Tokenizer):
    """The packaged tokenizer with the size of the real one, which writes tokens as numbers."""

    vocab_size = property(lambda self: 257_152, lambda self, value: None)

    def decode(self, ids: Any, stop_at_eos: bool = True) -> str:
        """The numbers of the tokens."""
        return " ".join(map(str, ids))


def make_model(size: str) -> Any:
    """Makes a model of random weights in the layout for decoding."""
    import flax.linen as nn
    import jax

    from pgjax import trees
    from pgjax.config import parse_config
    from pgjax.inference.model import Model
    from pgjax.loading.decode_layout import to_decode_layout
    from pgjax.loading.model_context import for_answering, open_model_context
    from pgjax.models.paligemma import abstract_params

    spec = {**SIZES[size], "remat": "none", "img_dtype": "auto", "llm_dtype": "auto"}
    answering = {
        "image": f"decode|resize({spec['res']}, antialias=True)|value_range(-1, 1)",
        "text": "for_answering(512)",
    }
    config = parse_config({"model": spec, "tokenizer": "gemma", "answering": answering})
    tiny = Tokenizer.tiny()
    tokenizer = tiny if size == "tiny" else Vocabulary(tiny.model_bytes)
    context = open_model_context(for_answering(config, {"data": 1, "model": -1}), tokenizer)
    flat = trees.flatten(nn.unbox(abstract_params(context.model)))
    dtype = context.model.llm_dtype
    params = random_arrays(
        {
            n: jax.ShapeDtypeStruct(x.shape, dtype, sharding=context.shardings[n])
            for n, x in flat.items()
        }
    )
    layers = to_decode_layout(params)
    return Model(context, params | layers, size)


def question(i: int) -> tuple[np.ndarray, str]:
    """An image of noise, uint8 [64,64,3], and a prompt."""
    rng = np.random.default_rng(i)
    return rng.integers(0, 256, (64, 64, 3), np.uint8), f"answer en how many? {i}"


def ask(port: int, name: str, tokens: int, i: int) -> str:
    """Asks the server a question, and returns the text of the answer."""
    image, prompt = question(i)
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    body = {
        "model": name,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": content}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=3600) as response:
        answer = json.load(response)
    assert answer["usage"]["completion_tokens"] == tokens, answer["usage"]
    return answer["choices"][0]["message"]["content"]


class Timed:
    """The answers to `count` questions that so many clients ask.

    Attributes:
      answers: their texts.
      seconds: that all of them took.
      cpu: seconds of processor time for each, of server and clients: on a machine that others use
        as well, these vary less.
    """

    def __init__(self, call: Callable[[int], str], clients: int, count: int) -> None:
        """Asks them."""
        start, cpu = time.perf_counter(), time.process_time()
        with futures.ThreadPoolExecutor(clients) as pool:
            self.answers = list(pool.map(call, range(count)))
        self.seconds = time.perf_counter() - start
        self.cpu = (time.process_time() - cpu) / count


def measure(args: argparse.Namespace) -> list[Row]:
    """Measures one by one, then each number of clients, and returns the rows of the table."""
    from pgjax.serving.http_server import ServeOptions, bound, opened

    model = make_model(args.size)

    def alone(i: int) -> str:
        return model.generate(*question(i), max_new_tokens=args.tokens)

    alone(0)  # compiles
    base = Timed(alone, 1, args.alone)
    rate = args.alone * args.tokens / base.seconds
    note = f"{base.cpu:.2f} s of CPU an answer; load {os.getloadavg()[0]:.1f}"
    rows = [Row("one by one, Model.generate", rate, "tokens/s", note)]
    options = ServeOptions(
        name=args.size,
        rows=max(args.clients),
        queue=max(args.clients),
        longest_prompt=32,
        longest_answer=max(args.tokens, 16),
        time_limit=3600,
    )
    with bound("127.0.0.1", 0) as sock, opened(model, options, sock) as server:
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        while not server.started:
            time.sleep(0.1)
        call = functools.partial(ask, sock.getsockname()[1], args.size, args.tokens)
        for clients in args.clients:
            count = max(args.alone, args.rounds * clients)
            made = Timed(call, clients, count)
            same = sum(a == b for a, b in zip(made.answers, base.answers, strict=False))
            faster = made.seconds / count * args.alone / base.seconds
            note = (
                f"{1 / faster:.2f} × one by one; {made.cpu:.2f} s of CPU an answer, "
                f"{base.cpu / made.cpu:.2f} × less; {same} of {args.alone} answers the same; "
                f"load {os.getloadavg()[0]:.1f}"
            )
            tokens = count * args.tokens / made.seconds
            rows.append(Row(f"served, {clients} clients", tokens, "tokens/s", note))
            print(rows[-1], flush=True)
        server.should_exit = True
        thread.join()
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(SIZES), default="mid", help="the model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], help="at once")
    parser.add_argument("--tokens", type=int, default=64, help="the length of answers")
    parser.add_argument("--rounds", type=int, default=2, help="questions of each client")
    parser.add_argument("--alone", type=int, default=4, help="questions that are asked one by one")
    args = parser.parse_args()
    found = measure(args)
    print(f"{machine()}; {versions()}")
    for row in found:
        print(row)


if __name__ == "__main__":
    main()
