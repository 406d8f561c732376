"""The messages of a conversation keep their order and their bound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.demo.conversation import KEPT_LIMIT, ROOT, Conversation, Message
from pyproxy.demo.places import Refusal


class OrderTests(SynchronousTestCase):
    """Where a message goes."""

    def test_goes_where_the_client_says(self) -> None:
        """At the end, at the beginning, or after another one; the one before it is returned."""
        conversation = Conversation()
        for name, after, before in (
            ("b", None, None),
            ("d", None, "b"),
            ("a", ROOT, None),
            ("c", "b", "b"),
            ("e", "d", "d"),
        ):
            self.assertEqual(conversation.insert(Message(name, "user", name), after), before)
        self.assertEqual(conversation.texts, [("user", name) for name in "abcde"])

    def test_refuses_what_has_no_place(self) -> None:
        """An id that is there already, and a place after one that is not."""
        conversation = Conversation()
        conversation.insert(Message("a", "user", "first"))
        for name, after, param in (("a", None, "item.id"), ("b", "c", "previous_item_id")):
            with self.subTest(name=name):
                with self.assertRaises(Refusal) as caught:
                    conversation.insert(Message(name, "user", ""), after)
                self.assertEqual(caught.exception.param, param)
        self.assertEqual(conversation.texts, [("user", "first")])


class BoundTests(SynchronousTestCase):
    """How much is kept."""

    def test_oldest_leave(self) -> None:
        """Past the bound the oldest messages are forgotten."""
        conversation = Conversation()
        for number in range(9):
            conversation.insert(Message(str(number), "user", str(number) * (KEPT_LIMIT // 4)))
        self.assertEqual([text[0] for _, text in conversation.texts], ["6", "7", "8"])

    def test_many_empty_ones_leave_too(self) -> None:
        """A message without a text counts as well."""
        conversation = Conversation()
        for number in range(2000):
            conversation.insert(Message(str(number), "user", ""))
        self.assertLess(len(conversation.texts), 1025)

    def test_last_one_stays(self) -> None:
        """The one message that is larger than the bound is kept."""
        conversation = Conversation()
        conversation.insert(Message("a", "user", "a"))
        conversation.insert(Message("b", "user", "b" * KEPT_LIMIT))
        self.assertEqual([text[0] for _, text in conversation.texts], ["b"])
