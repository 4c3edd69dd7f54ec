{{- define "perpetuo.name" -}}
{{- printf "%s" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "perpetuo.selector" -}}
app.kubernetes.io/name: perpetuo
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "perpetuo.labels" -}}
{{ include "perpetuo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
