"""Results in MLflow, in the one room that imports it: `content.py` says what MLflow should hold of a sweep, as plain
data; `client.py` opens a server or database, and says what it will refuse; `export.py` brings the one up to date with
the other, so that a second export changes nothing. Imports `planning/`, `results/`, `reports/` and `store/`. Begin with
`content.py`.
"""

import os

# Read when mlflow is imported: no telemetry, no chatter, and an unreachable server costs seconds, not minutes.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # a busy server may say an hour, in which nothing else is heard
}.items():
    os.environ.setdefault(_name, _value)
