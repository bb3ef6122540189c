"""The study: its storage, trials, budget and failures."""
