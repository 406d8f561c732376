"""POST on a route that caches it: its content is read first, being a part of what is asked."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.web.iweb import UNKNOWN_LENGTH

from pyproxy.policy.cache_policy import PostPolicy
from pyproxy.semantics.caching import CONDITIONAL
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.sides import UpstreamRequest


@attrs.frozen(eq=False)
class Posting:
    """What is peculiar to a POST.

    Attributes:
        answered: told of the head of the upstream's response.
    """

    policy: PostPolicy
    answered: Callable[[ResponseHead], None]


def may_be_kept(head: RequestHead, request: UpstreamRequest, policy: PostPolicy) -> bool:
    """Tell whether a POST can be looked up.

    Its length is known and in bounds, it comes without being asked for, and whether or for what
    part it is to be done does not depend on what only the origin knows (RFC 9110 13.1).
    """
    content = request.content
    if b"expect" in head.noted or request.bond is not None:
        return False
    if not CONDITIONAL.isdisjoint(head.names):
        return False
    if content is None:
        return True
    length = content.length
    return length != UNKNOWN_LENGTH and int(length) <= policy.whole
