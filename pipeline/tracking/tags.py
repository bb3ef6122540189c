"""The tags by which runs are found again. MLflow's own state knows neither study nor reason."""

PREFIX = "tunewright."
KIND = PREFIX + "kind"  # study, trial or run
STATE = PREFIX + "state"  # running, paused, complete, pruned or failed
REASON = PREFIX + "reason"  # why a failed run failed
STUDY = PREFIX + "study"  # a study's or trial's study
STORAGE = PREFIX + "storage"  # on a study: where its trials are kept, without secrets
TRIAL = PREFIX + "trial"  # a trial's number
REPEAT = PREFIX + "repeat"  # which of a trial's seeds a run had, from 0
BEST_RUN = PREFIX + "best_run_id"  # on the study: the best trial's run
BEST_TRIAL = PREFIX + "best_trial"
KEPT_FOR = PREFIX + "kept_for"  # on a run: the fork whose best it is, so that its model stays
BEST_SCORE = PREFIX + "best_score"  # as it is shown, with its spread over several seeds
FRONT = PREFIX + "pareto_front"  # on a study of several objectives: numbers of its trials
MODEL_RUN = PREFIX + "model_run_id"  # on the study: whose model it keeps, where the best has none
SPACE = PREFIX + "space"  # on a study: what it searches now, as JSON
OBJECTIVE = PREFIX + "objective"
DIRECTION = PREFIX + "direction"
OVERRIDES = PREFIX + "overrides"  # the command line that makes the run again, as a JSON list
JOB = PREFIX + "job"  # on a study: the name that its command line ran under
LIMITS = PREFIX + "limits"  # on a study: n_trials, retries and repeats, as JSON
PREDICTIONS = PREFIX + "predictions"  # digests of the raw outputs by split, as JSON
RERUN_OF = PREFIX + "rerun_of"  # the run whose record this one was made from
RERUN_BY = PREFIX + "rerun_by"  # the last run that was made from this one's record
VERDICT = PREFIX + "verdict"  # on a rerun: identical, equivalent or different, and what differs
PROCESS = PREFIX + "process"  # on a study and a run of its own: who writes it, as JSON
TEST_ROWS = PREFIX + "test_rows"  # on a run: a digest of the test split that it read
