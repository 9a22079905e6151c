{{- define "wsd.name" -}}
{{- if contains "wsd" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-wsd" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "wsd.selector" -}}
app.kubernetes.io/name: wsd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wsd.labels" -}}
{{ include "wsd.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Whether there is a client port without TLS. */ -}}
{{- define "wsd.plain" -}}
{{- if not (or .Values.tls.plain .Values.tls.secretName) }}{{ fail "tls.plain is false, so tls.secretName must name a secret" }}{{ end -}}
{{ .Values.tls.plain }}
{{- end }}

{{- /* The secrets that pods mount: that of the certificate and those of secrets, each once. */ -}}
{{- define "wsd.secrets" -}}
{{ concat (.Values.tls.secretName | list | compact) .Values.secrets | uniq | toJson }}
{{- end }}

{{- /* What the chart decides of wsd.yaml; config counts before it. */ -}}
{{- define "wsd.config" -}}
{{- if not .Values.kafka.brokers }}{{ fail "kafka.brokers is empty: name at least one broker" }}{{ end }}
{{- if not .Values.kafka.topics }}{{ fail "kafka.topics is empty: name at least one topic" }}{{ end }}
{{- $mode := ternary "off" "require" (eq .Values.steering "hash") }}
{{- $client := dict "listen" (list) }}
{{- if eq (include "wsd.plain" .) "true" }}
{{- $_ := set $client "listen" (list (printf ":%v" .Values.ports.client)) }}
{{- end }}
{{- with .Values.tls.secretName }}
{{- $_ := set $client "tls_listen" (list (printf ":%v" $.Values.ports.tls)) }}
{{- $_ := set $client "tls" (dict "certificates" (list (printf "/run/secrets/%s/tls.crt=/run/secrets/%s/tls.key" . .))) }}
{{- end }}
{{- $base := dict
  "kafka" (dict "brokers" .Values.kafka.brokers "topics" .Values.kafka.topics)
  "client" $client
  "admin" (dict "listen" (printf ":%v" .Values.ports.admin))
  "shutdown" (dict "drain" (printf "%vs" .Values.drainSeconds))
  "steering" (dict "mode" $mode) }}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.config)) }}
{{- end }}
