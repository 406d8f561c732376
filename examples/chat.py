"""Ask a question through the proxy with the openai package, and print the answer word by word.

Start a proxy with ``twistd -n pyproxy --demo``, then::

    pip install openai
    python examples/chat.py "How are you?"
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from openai import OpenAI, OpenAIError


def main() -> int:
    """Run the command line; return 1 if the answer failed."""
    parser = argparse.ArgumentParser(description="Chat through the proxy.")
    parser.add_argument("question", nargs="*", default=["Hello!"])
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    # The proxy adds the upstream's key, so that a client needs none; the package insists on one.
    client = OpenAI(
        base_url=options.base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        max_retries=0,
    )
    try:
        for word in words(client, options.model, " ".join(options.question)):
            print(word, end="", flush=True)
    except OpenAIError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    print()
    return 0


def words(client: OpenAI, model: str, question: str) -> Iterator[str]:
    """Yield the pieces of an answer as they come."""
    with client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True
    ) as chunks:
        for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


if __name__ == "__main__":
    sys.exit(main())
