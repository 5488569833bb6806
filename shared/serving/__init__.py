"""The base of every service's process.

service          start and end of a service's process
early_stop       SIGTERM while a service loads
rpc              the gRPC server: limits, health, reflection, statuses, drain
settings         settings that all services have, from environment and command line
file_watch       values made from files that may be replaced
tls              server certificates that are reloaded when their files change
telemetry        logs as lines of JSON
metrics          metrics that all services have, and their HTTP endpoint
tracing          OpenTelemetry spans
request_context  request id and trace context of the request being served
"""
