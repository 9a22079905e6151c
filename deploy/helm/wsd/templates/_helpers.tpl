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

{{- /* What the chart decides of wsd.yaml; config counts before it. */ -}}
{{- define "wsd.config" -}}
{{- if not .Values.kafka.brokers }}{{ fail "kafka.brokers is empty: name at least one broker" }}{{ end }}
{{- if not .Values.kafka.topics }}{{ fail "kafka.topics is empty: name at least one topic" }}{{ end }}
{{- $mode := ternary "off" "require" (eq .Values.steering "hash") }}
{{- $base := dict
  "kafka" (dict "brokers" .Values.kafka.brokers "topics" .Values.kafka.topics)
  "client" (dict "listen" (list (printf ":%v" .Values.ports.client)))
  "admin" (dict "listen" (printf ":%v" .Values.ports.admin))
  "shutdown" (dict "drain" (printf "%vs" .Values.drainSeconds))
  "steering" (dict "mode" $mode) }}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.config)) }}
{{- end }}
