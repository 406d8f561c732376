"""What a span says of a model: which operation, of whom, and what it took.

Spec: OpenTelemetry's semantic-conventions-genai v0.1.0, span ``gen_ai.client.inference``.
"""

from __future__ import annotations

import re
from functools import lru_cache

import attrs

from pyproxy.account import Account
from pyproxy.observe.values import Value

PROVIDERS = {
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "ollama": "ollama",
    "openai-chat": "openai",
    "openai-realtime": "openai",
    "openai-responses": "openai",
}
"""Whose dialect it is, where the upstream's name does not say whom it belongs to."""

HOSTS = (
    ("openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("deepseek.com", "deepseek"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("moonshot.cn", "moonshot_ai"),
    ("perplexity.ai", "perplexity"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("x.ai", "x_ai"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
"""Names of upstreams, and of all below them, with whose they are."""

MOST_PEERS = 256
"""Upstreams of which it is remembered whose they are."""

_bedrock = re.compile(r"bedrock(?:-[a-z-]+)?\.[a-z0-9-]+\.amazonaws\.com").fullmatch
_regional = re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com").fullmatch
_host = re.compile(r"[a-z]+://(\[[^]]*\]|[^:/]*)").match
_gemini_model = re.compile(rb"/models/([^/:?]+):").search


@attrs.frozen
class Ask:
    """What was asked of a model.

    Attributes:
        name: of its span.
        values: its attributes.
    """

    name: str
    values: dict[str, Value]


def ask_of(account: Account) -> Ask | None:
    """Return what an account says of a model, None where its answer was in no known dialect."""
    if account.dialect is None:
        return None
    operation, asked = operation_of(account), _asked_model(account)
    model, usage = asked or account.model, account.usage
    streamed = account.events > 0
    values: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider_of(account.dialect, account.peer),
        "gen_ai.request.model": asked,
        "gen_ai.request.stream": True if streamed else None,
        "gen_ai.response.model": account.model,
    }
    if streamed and account.first is not None and account.connected is not None:
        first = max(0.0, account.first - account.connected)
        values["gen_ai.response.time_to_first_chunk"] = round(first, 6)
    if usage is not None:
        values |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.cache_write.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "pyproxy.cost": usage.cost,
        }
    return Ask(f"{operation} {model}" if model else operation, values)


def operation_of(account: Account) -> str:
    """Return the operation, as the conventions call it: the dialect tells, or the path."""
    path = account.asked_target.partition(b"?")[0].rstrip(b"/").lower()
    if path.endswith((b"/embeddings", b"/embed", b":embedcontent", b":batchembedcontents")):
        return "embeddings"
    if account.dialect == "gemini":
        return "generate_content"
    if path.endswith(b"/completions") and not path.endswith(b"/chat/completions"):
        return "text_completion"
    if account.dialect == "ollama" and path.endswith(b"/generate"):
        return "text_completion"
    return "chat"


@lru_cache(maxsize=MOST_PEERS)
def provider_of(dialect: str, peer: str) -> str:
    """Return whose model it is: as the upstream's name says, or else its dialect."""
    match = _host(peer)
    host = match[1].removesuffix(".") if match else ""
    if _bedrock(host):
        return "aws.bedrock"
    if _regional(host):
        return "gcp.vertex_ai"
    for name, provider in HOSTS:
        if host == name or host.endswith("." + name):
            return provider
    return PROVIDERS.get(dialect, dialect)


def _asked_model(account: Account) -> str | None:
    """Return the model that was asked for; only Gemini's dialect says it outside of content."""
    match = _gemini_model(account.asked_target)
    return None if match is None else match[1].decode("ascii", "backslashreplace")
