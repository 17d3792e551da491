#!/bin/sh
# One component of the stack: run.sh COMPONENT. A container runs it, and so does `make stack` on a host.
# BIND and PORT: where it listens. QUEUE: of a worker. NO_LOG_SERVER: logs by S3 alone. PYTHON: the interpreter that has everything installed.
set -eu
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python}"
BIND="${BIND:-0.0.0.0}"
case "${1:-}" in
  init) exec "$PYTHON" docker/init.py ;;
  users) exec "$PYTHON" docker/users.py ;;
  api-server) exec "$PYTHON" -m airflow api-server --host "$BIND" --port "$PORT" --workers "${API_WORKERS:-1}" ;;
  scheduler) exec "$PYTHON" -m airflow scheduler --skip-serve-logs ;;
  dag-processor) exec "$PYTHON" -m airflow dag-processor ;;
  triggerer) exec "$PYTHON" -m airflow triggerer ${NO_LOG_SERVER:+--skip-serve-logs} ;;
  worker)
    exec "$PYTHON" -m airflow celery worker --queues "$QUEUE" --concurrency "${CONCURRENCY:-2}" --celery-hostname "$QUEUE@%h" \
      --without-mingle --without-gossip ${NO_LOG_SERVER:+--skip-serve-logs} ;;
  mlflow)
    # Who may do what lives in Postgres; a good password is hashed once a minute, not at every request.
    mkdir -p "$EVERGREEN_HOME"
    MLFLOW_AUTH_CONFIG_PATH="$EVERGREEN_HOME/basic_auth.ini"
    export MLFLOW_AUTH_CONFIG_PATH
    umask 077
    printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nadmin_username = admin\nauth_cache_ttl_seconds = 60\n' \
      "$MLFLOW_AUTH_DATABASE" | sed 's/%/%%/g' > "$MLFLOW_AUTH_CONFIG_PATH"
    exec "$PYTHON" -m mlflow server --app-name basic-auth --host "$BIND" --port "$PORT" --workers "${API_WORKERS:-1}" \
      --backend-store-uri "$MLFLOW_DATABASE" --artifacts-destination "$MLFLOW_ARTIFACTS" \
      --allowed-hosts "$MLFLOW_ALLOWED_HOSTS" --cors-allowed-origins "$MLFLOW_ALLOWED_ORIGINS" ;;
  server) exec "$PYTHON" -m mlops serve "$SERVE_MODEL" --host "$BIND" --port "$PORT" ;;
  *)
    echo "run.sh: found '${1:-}'; allowed: init, users, api-server, scheduler, dag-processor, triggerer, worker, mlflow, server" >&2
    exit 2 ;;
esac
