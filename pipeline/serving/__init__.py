"""A trained model on its own: saved, described, checked, and asked for predictions."""
