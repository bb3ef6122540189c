"""What is trained, as types: the schema by group, how it is composed, and how records are read.

Imports nothing heavy, so that a bad config is refused before torch is loaded.
"""
