{{- define "diarserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "diarserve.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "diarserve.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "diarserve.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "diarserve.selector" -}}
app.kubernetes.io/name: {{ include "diarserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "diarserve.labels" -}}
{{ include "diarserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "diarserve.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "diarserve.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* "true" where several servers share their tasks, else empty */}}
{{- define "diarserve.shared" -}}
{{- if .Values.store.urlSecret.name -}}true{{- end -}}
{{- end -}}

{{/* What does not go together, as a JSON schema cannot say it */}}
{{- define "diarserve.check" -}}
{{- $shared := include "diarserve.shared" . -}}
{{- if ne (not $shared) (not .Values.store.objects) -}}
{{- fail "store.urlSecret.name and store.objects go together: several servers share the database and the object store" -}}
{{- end -}}
{{- if and (not $shared) (gt (int .Values.replicas) 1) -}}
{{- fail "replicas: more than one server needs store.urlSecret and store.objects (docs/cluster.md)" -}}
{{- end -}}
{{- if and (not $shared) .Values.autoscaling.kind -}}
{{- fail "autoscaling needs store.urlSecret and store.objects: without them there is one server" -}}
{{- end -}}
{{- if and .Values.autoscaling.kind (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is less than minReplicas" -}}
{{- end -}}
{{- if and $shared .Values.networkPolicy.enabled (not .Values.networkPolicy.egress) -}}
{{- fail "networkPolicy.egress must let servers reach PostgreSQL and the object store" -}}
{{- end -}}
{{- if and .Values.config .Values.configFile -}}
{{- fail "config and configFile are alternatives" -}}
{{- end -}}
{{- if not (or .Values.access.open .Values.access.keysSecret.name) -}}
{{- fail "access.keysSecret.name is needed, or access.open where something before the server decides who may ask" -}}
{{- end -}}
{{- end -}}
