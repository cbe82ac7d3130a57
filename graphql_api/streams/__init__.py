"""Subscriptions on their way out: WebSockets and server-sent events, in bounded numbers, until their credential or the server ends."""
