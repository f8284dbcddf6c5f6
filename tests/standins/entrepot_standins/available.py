"""What a stand-in says when it cannot be set up on this machine."""


class NotAvailable(Exception):
    """A stand-in cannot run here. The text is a sentence: what is missing, and how to get it."""
