"""Fine-tuning: step four of a run."""
