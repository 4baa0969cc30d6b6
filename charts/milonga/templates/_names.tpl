{{/* Short enough that a server's name, a pod's number and a revision's checksum fit behind it. */}}
{{- define "milonga.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "milonga" $name) -}}
{{- $name = printf "%s-milonga" $name -}}
{{- end -}}
{{- if gt (len $name) 24 -}}
{{- $name = printf "%s-%s" ($name | trunc 17 | trimSuffix "-") (sha256sum .Release.Name | trunc 6) -}}
{{- end -}}
{{- $name | replace "." "-" -}}
{{- end -}}

{{- define "milonga.selector" -}}
app.kubernetes.io/name: milonga
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "milonga.labels" -}}
{{ include "milonga.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "milonga.databaseName" -}}
{{ include "milonga.fullname" . }}-tangodb
{{- end -}}

{{- define "milonga.tangoHost" -}}
{{- if .Values.database.enabled -}}
{{ include "milonga.databaseName" . }}:{{ .Values.database.port }}
{{- else -}}
{{ .Values.tango.host }}
{{- end -}}
{{- end -}}

{{/* image reference; takes a list: the root, and an image that wins over the chart's own */}}
{{- define "milonga.image" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 | default dict -}}
{{- $image := $root.Values.image -}}
{{- $repository := $own.repository | default $image.repository -}}
{{- $tag := $own.tag | default (ternary $root.Chart.AppVersion $image.tag (or (not (empty $own.repository)) (empty $image.tag))) -}}
{{- $digest := $own.digest | default (ternary "" $image.digest (not (empty $own.repository))) -}}
{{- if $digest -}}
{{ $repository }}@{{ $digest }}
{{- else -}}
{{ $repository }}:{{ $tag }}
{{- end -}}
{{- end -}}
