{{/* What every pod has. The user is the one that the image knows by name: omniORB insists on that. */}}
{{- define "milonga.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end -}}

{{- define "milonga.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 10001
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Environment of a device server; takes a list: the root, and the server's own options. */}}
{{- define "milonga.serverEnv" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
- name: MILONGA_LISTEN
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: MILONGA_HEALTH_PORT
  value: {{ $root.Values.health.port | quote }}
- name: MILONGA_DATA
  value: /var/lib/milonga
{{- with $root.Values.records }}
{{- if .existingSecret }}
- name: MILONGA_RECORDS
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret.name }}, key: {{ .existingSecret.key | default "url" }}}
{{- else if .url }}
- name: MILONGA_RECORDS
  value: {{ .url | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := merge (dict) ($own.env | default dict) $root.Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/*
A volume claim, or a directory that goes with the pod; takes a list: storage, and the volume's name.
*/}}
{{- define "milonga.claim" -}}
{{- $storage := index . 0 -}}
- metadata:
    name: {{ index . 1 }}
  spec:
    accessModes: [ReadWriteOnce]
{{- with $storage.className }}
    storageClassName: {{ . }}
{{- end }}
    resources:
      requests:
        storage: {{ $storage.size }}
{{- end -}}
