{{/* Parts that gateways and workers have in common. */}}

{{- define "latentd.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "latentd.selector" -}}
app.kubernetes.io/name: latentd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "latentd.labels" -}}
{{ include "latentd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "latentd.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "latentd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "latentd.environment" -}}
- {name: LATENTD_MODEL, value: {{ join "," .Values.models | quote }}}
- {name: LATENTD_SAFETY_CHECKER, value: {{ .Values.safetyChecker | quote }}}
- {name: LATENTD_STORAGE, value: {{ .Values.storage | quote }}}
- {name: LATENTD_DRAIN_TIMEOUT, value: {{ .Values.drainTimeout | quote }}}
- name: LATENTD_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.database.name }}, key: {{ .Values.secrets.database.key }}}}
{{- if .Values.offline }}
- {name: LATENTD_OFFLINE, value: "true"}
{{- end }}
{{- if .Values.secrets.bucket.name }}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: /secrets/bucket/aws}
{{- end }}
{{- if .Values.secrets.huggingFace.name }}
- {name: HF_TOKEN_PATH, value: /secrets/hugging-face/token}
{{- end }}
{{- end }}

{{- define "latentd.mounts" -}}
- {name: data, mountPath: /data}
- {name: models, mountPath: /models}
{{- if .Values.secrets.bucket.name }}
- {name: bucket, mountPath: /secrets/bucket, readOnly: true}
{{- end }}
{{- if .Values.secrets.huggingFace.name }}
- {name: hugging-face, mountPath: /secrets/hugging-face, readOnly: true}
{{- end }}
{{- end }}

{{- define "latentd.volumes" -}}
- name: models
{{- if .Values.modelsClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.modelsClaim }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- with .Values.secrets.bucket }}
{{- if .name }}
- name: bucket
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: aws}]}
{{- end }}
{{- end }}
{{- with .Values.secrets.huggingFace }}
{{- if .name }}
- name: hugging-face
  secret: {secretName: {{ .name }}, defaultMode: 0440, items: [{key: {{ .key }}, path: token}]}
{{- end }}
{{- end }}
{{- end }}
