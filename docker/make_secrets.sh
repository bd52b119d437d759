#!/bin/sh
# Draws every secret of compose.yaml once, into docker/secrets, which this user alone can enter.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets ] || { echo "docker/secrets is there already: remove it to draw new ones" >&2; exit 1; }
umask 077
mkdir secrets
draw() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
token=$(draw)$(draw) postgres=$(draw) mlflow=$(draw) s3=$(draw) flask=$(draw)$(draw)

printf %s "$token" > secrets/ray_token
printf %s "$postgres" > secrets/postgres_password
cat > secrets/node.env <<EOF
AWS_ACCESS_KEY_ID=midre
AWS_SECRET_ACCESS_KEY=$s3
AWS_DEFAULT_REGION=us-east-1
MLFLOW_TRACKING_USERNAME=midre
MLFLOW_TRACKING_PASSWORD=$mlflow
EOF
cat > secrets/mlflow.env <<EOF
MLFLOW_BACKEND_STORE_URI=postgresql+psycopg2://midre:$postgres@postgres/mlflow
MLFLOW_FLASK_SERVER_SECRET_KEY=$flask
EOF
cat > secrets/basic_auth.ini <<EOF
[mlflow]
default_permission = READ
database_uri = sqlite:////runs/mlflow-users.db
admin_username = midre
admin_password = $mlflow
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
EOF
cat > secrets/s3.json <<EOF
{"identities": [{"name": "midre", "credentials": [{"accessKey": "midre", "secretKey": "$s3"}], "actions": ["Admin"]}]}
EOF
# Containers read these as another user; the folder around them keeps everybody else out.
chmod 644 secrets/ray_token secrets/basic_auth.ini secrets/s3.json secrets/postgres_password
