"""mvgateway: a UDP-based HTTP/3 gateway in front of mvstore."""

__version__ = "0.1.0"
