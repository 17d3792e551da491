"""The runtime that ships, the HTTP server, the MLflow model; none of it imports torch."""
