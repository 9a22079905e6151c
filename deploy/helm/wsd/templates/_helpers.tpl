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

{{- /* The secrets that pods mount: those of certificates and keys, and those of secrets, each once. */ -}}
{{- define "wsd.secrets" -}}
{{ concat (list .Values.tls.secretName .Values.api.keysSecretName .Values.api.tlsSecretName | compact) .Values.secrets | uniq | toJson }}
{{- end }}

{{- /* What the chart decides of the server API. */ -}}
{{- define "wsd.api" -}}
{{- if and .Values.api.tlsSecretName (not .Values.api.keysSecretName) }}{{ fail "api.tlsSecretName has no effect: api.keysSecretName must name a secret with keys" }}{{ end }}
{{- $api := dict }}
{{- with .Values.api.keysSecretName }}
{{- $_ := set $api "keys_file" (printf "/run/secrets/%s/keys" .) }}
{{- $_ := set $api "listen" (printf ":%v" $.Values.ports.api) }}
{{- end }}
{{- with .Values.api.tlsSecretName }}
{{- $_ := set $api "tls" (dict "certificates" (list (printf "/run/secrets/%s/tls.crt=/run/secrets/%s/tls.key" . .))) }}
{{- end }}
{{- toYaml $api }}
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
{{- with include "wsd.api" . | fromYaml }}
{{- $_ := set $base "api" . }}
{{- end }}
{{- toYaml (mergeOverwrite $base (deepCopy .Values.config)) }}
{{- end }}
