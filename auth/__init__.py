"""Tokens and their scopes: who may post, read and steer.

The room promises that no door opens without a token, that secrets are never stored (only their SHA-256), and that
they are compared in constant time. It imports nothing of ours, so that every other room may stand on it.
"""

from auth.tokens import Grant, InvalidTokenFile, Scope, TokenFile, TokenStore

__all__ = ["Grant", "InvalidTokenFile", "Scope", "TokenFile", "TokenStore"]
