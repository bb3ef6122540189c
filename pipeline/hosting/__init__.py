"""Hosted fine-tuning: the interface of OpenAI's service, on this machine."""
