{{/*
The topology file's text. A text is passed on as it is, so that what the pods read is, byte for
byte, what the laptop reads.
*/}}
{{- define "milonga.topologyText" -}}
{{- $topology := .Values.topology | required "topology: found nothing, expected a topology file; give it by --set-file topology=FILE" -}}
{{- $text := $topology -}}
{{- if not (kindIs "string" $topology) -}}
{{- $text = toYaml $topology -}}
{{- end -}}
{{- if gt (len $text) 900000 -}}
{{- fail (printf "topology: found a text of %d bytes, expected at most 900000, as much as a ConfigMap holds" (len $text)) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* The topology as JSON. Only for looking things up in it: it has been through Helm's YAML 1.1. */}}
{{- define "milonga.topology" -}}
{{- $topology := .Values.topology -}}
{{- if kindIs "string" $topology -}}
{{- $topology = include "milonga.topologyText" . | fromYaml -}}
{{- if and (hasKey $topology "Error") (not (hasKey $topology "name")) -}}
{{- fail (printf "topology: %s" $topology.Error) -}}
{{- end -}}
{{- end -}}
{{- toJson $topology -}}
{{- end -}}

{{/*
The processes of the topology, as JSON: by server name its resource name, its Tango name, and its
devices, each with its class.
*/}}
{{- define "milonga.servers" -}}
{{- $topology := include "milonga.topology" . | fromJson -}}
{{- $simulators := dict "motor" "MotorSimulator" "detector" "DetectorSimulator" -}}
{{- $devices := list -}}
{{- range $topology.plan_devices -}}
{{- if .server -}}
{{- $devices = append $devices (dict "server" .server "device" .device "class" (.class | default (get $simulators .type))) -}}
{{- end -}}
{{- end -}}
{{- range $topology.leaves -}}
{{- $devices = append $devices (dict "server" .server "device" .device "class" (.class | default "LeafSimulator")) -}}
{{- end -}}
{{- range $topology.subarrays -}}
{{- $devices = append $devices (dict "server" .server "device" .device "class" (.class | default "MilongaSubarray")) -}}
{{- end -}}
{{- with $topology.controller -}}
{{- $devices = append $devices (dict "server" .server "device" .device "class" (.class | default "MilongaController")) -}}
{{- end -}}
{{- $servers := dict -}}
{{- range $devices -}}
{{- if not (kindIs "string" .server) -}}
{{- fail (printf "topology: device %v: Helm reads the name of its server as %v, expected a text; put it in quotes" .device .server) -}}
{{- end -}}
{{- $name := .server -}}
{{- $found := get $servers $name | default dict -}}
{{- $options := get ($topology.servers | default dict) $name | default dict -}}
{{- $entry := dict "resource" (include "milonga.resourceName" (list $ $name)) "tangoName" ($options.tango_name | default "milonga-server") "devices" (append ($found.devices | default list) (pick . "device" "class")) -}}
{{- $_ := set $servers $name $entry -}}
{{- end -}}
{{- if not $servers -}}
{{- fail "topology: found neither controller nor subarrays, expected at least one of them" -}}
{{- end -}}
{{- range $name, $_ := .Values.servers -}}
{{- if not (hasKey $servers $name) -}}
{{- fail (printf "servers.%s: found '%s', expected one of %s" $name $name (keys $servers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- toJson $servers -}}
{{- end -}}

{{/*
A server's name as the name of a Kubernetes resource. A name that has to be changed gets some letters
of its checksum, so that a_b, a-b and A.b remain three.
*/}}
{{- define "milonga.resourceName" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $plain := regexReplaceAll "[^a-z0-9-]" (lower $name) "-" | trunc 20 | trimAll "-" -}}
{{- if ne $plain $name -}}
{{- $plain = printf "%s-%s" $plain (sha256sum $name | trunc 6) | trimPrefix "-" -}}
{{- end -}}
{{- printf "%s-%s" (include "milonga.fullname" $root) $plain -}}
{{- end -}}
