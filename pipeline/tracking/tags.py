"""The tags by which runs are found again. MLflow's own state knows neither study nor reason."""

PREFIX = "tunewright."
KIND = PREFIX + "kind"  # study, trial or run
STATE = PREFIX + "state"  # running, paused, complete, pruned or failed
REASON = PREFIX + "reason"  # why a failed run failed
STUDY = PREFIX + "study"  # a study's or trial's study
STORAGE = PREFIX + "storage"  # on a study: where its trials are kept, without secrets
TRIAL = PREFIX + "trial"  # a trial's number
BEST_RUN = PREFIX + "best_run_id"  # on the study: the best trial's run
BEST_TRIAL = PREFIX + "best_trial"
OBJECTIVE = PREFIX + "objective"
DIRECTION = PREFIX + "direction"
OVERRIDES = PREFIX + "overrides"  # the command line that makes the run again, as a JSON list
