"""What is wrong with what a peer sent, or with what was asked of this layer; every version of IKE has further ones below these."""


class IkeError(Exception):
    """Anything wrong with what a peer sent or with what was asked of this layer; the text never holds key material."""


class RetiredKeyError(RuntimeError):
    """A key that was given away is to seal once more: a fault of ours, and nothing may leave."""


class IkeSyntaxError(IkeError):
    """A message that breaks the format of its version."""
