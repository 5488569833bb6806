{{- define "internvl.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* internvl.labels: (dict "root" $ "component" "vision") */}}
{{- define "internvl.labels" -}}
{{ include "internvl.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "internvl.selector" -}}
app.kubernetes.io/name: internvl
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "internvl.port" -}}
{{ get (dict "gateway" 50050 "vision" 50051 "llm" 50052) . }}
{{- end }}

{{/* One variable of a service: (dict "component" "vision" "name" "drain_seconds" "value" 60) */}}
{{- define "internvl.variable" -}}
- name: {{ printf "INTERNVL_%s_%s" (upper .component) (upper .name) }}
  value: {{ kindIs "string" .value | ternary .value (toJson .value) | quote }}
{{- end }}

{{/* What the chart itself sets for all three. */}}
{{- define "internvl.commonSettings" -}}
{{- $settings := dict "host" "0.0.0.0" "port" (include "internvl.port" .component | int) "metrics_port" 9090 }}
{{- $_ := set $settings "log_level" .root.Values.logLevel }}
{{- with .root.Values.otlpEndpoint }}{{ $_ := set $settings "otlp_endpoint" . }}{{ end }}
{{- $_ := set $settings "drain_seconds" .root.Values.drainSeconds }}
{{- if .root.Values.internalTls.secret }}
{{- $_ := set $settings "peer_ca" "/etc/internvl/tls/ca.crt" }}
{{- $_ := set $settings "peer_certificate" "/etc/internvl/tls/tls.crt" }}
{{- $_ := set $settings "peer_key" "/etc/internvl/tls/tls.key" }}
{{- $_ := set $settings "peer_name" .root.Values.internalTls.serverName }}
{{- if eq .component "vision" }}
{{- $settings = omit $settings "peer_ca" "peer_certificate" "peer_key" "peer_name" }}
{{- end }}
{{- if ne .component "gateway" }}
{{- $_ := set $settings "tls_certificate" "/etc/internvl/tls/tls.crt" }}
{{- $_ := set $settings "tls_key" "/etc/internvl/tls/tls.key" }}
{{- $_ := set $settings "tls_client_ca" "/etc/internvl/tls/ca.crt" }}
{{- end }}
{{- end }}
{{- if ne .component "gateway" }}
{{- $_ := set $settings "model" (required "model.name: a folder on the volume, or a name on the model hub" .root.Values.model.name) }}
{{- if .root.Values.model.volume.download.enabled }}
{{- $_ := set $settings "model" "/models/checkpoint" }}
{{- $_ := set $settings "model_name" (base .root.Values.model.name) }}
{{- end }}
{{- with .root.Values.model.revision }}{{ $_ := set $settings "revision" . }}{{ end }}
{{- with .root.Values.model.publicName }}{{ $_ := set $settings "model_name" . }}{{ end }}
{{- end }}
{{- toJson $settings }}
{{- end }}

{{/* A probe: (dict "root" $ "component" "vision" "service" "").

     Kubernetes' own gRPC probe speaks no TLS: model services then answer the command `internvl health`, and the gateway,
     whose certificate may be anybody's, over HTTPS, where Kubernetes does not ask for an authority. */}}
{{- define "internvl.probe" -}}
{{- $port := include "internvl.port" .component }}
{{- if and .root.Values.internalTls.secret (ne .component "gateway") -}}
exec:
  command:
    - internvl
    - health
    - {{ printf "127.0.0.1:%s" $port }}
    - --tls
    - --tls-ca=/etc/internvl/tls/ca.crt
    - --tls-certificate=/etc/internvl/tls/tls.crt
    - --tls-key=/etc/internvl/tls/tls.key
    - --server-name={{ .root.Values.internalTls.serverName }}
{{- else if and .root.Values.gateway.tlsSecret (eq .component "gateway") -}}
{{- if and .root.Values.gateway.http (not .service) -}}
httpGet:
  path: /health
  port: http
  scheme: HTTPS
{{- else -}}
tcpSocket:
  port: grpc
{{- end }}
{{- else -}}
grpc:
  port: {{ $port }}
  {{- with .service }}
  service: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
