"""The ways an experiment is carried out: alone, as a trial, again."""
